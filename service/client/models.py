"""Calls about registered models."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.base.errors import ConfigError, FieldProblem
from service.client.client import Client
from service.client.downloads import download
from service.client.errors import ServiceError
from service.client.responses import JSON_HEADERS, json_body, read_answer
from service.rest.export_schemas import ExportList
from service.rest.model_schemas import ModelList, ModelView
from service.rest.model_version_schemas import ModelComparison, ModelVersionDetails, PromotionList
from service.rest.schemas import JobView


class ModelsClient(Client):
    """A client with the calls about models, see `Client`."""

    def models(self) -> ModelList:
        """Return all models."""
        return read_answer(ModelList, self.call("GET", "/v1/models"))

    def model(self, name: str) -> ModelView:
        """Return a model with its versions."""
        return read_answer(ModelView, self.call("GET", _path(name)))

    def model_version(self, name: str, number: int) -> ModelVersionDetails:
        """Return a version with its origin."""
        return read_answer(ModelVersionDetails, self.call("GET", _version_path(name, number)))

    def compare(self, name: str, first: int, second: int) -> ModelComparison:
        """Return two versions side by side."""
        params = {"first": first, "second": second}
        return read_answer(ModelComparison, self.call("GET", f"{_path(name)}/comparison", params=params))

    def promotions(self, name: str) -> PromotionList:
        """Return the latest moves of aliases."""
        return read_answer(PromotionList, self.call("GET", f"{_path(name)}/promotions"))

    def number_of(self, name: str, version: str) -> int:
        """Return the number of a version that is given by its number or by an alias; raises ConfigError."""
        if version.isdecimal():
            return int(version)
        aliases = self.model(name).aliases
        if version not in aliases:
            known = ", ".join(sorted(aliases)) or "none"
            raise ConfigError(
                FieldProblem(
                    "VERSION", f"got {version!r}; write the number of a version, or an alias of {name}: {known}"
                )
            )
        return aliases[version]

    def promote(self, name: str, alias: str, number: int, reason: str) -> int | None:
        """Point an alias to a version, and return the version that it pointed to before.

        Raises:
            ServiceError: somebody else has moved it at the same time.
        """
        present = self.model(name).aliases.get(alias)
        condition = {"If-None-Match": "*"} if present is None else {"If-Match": f'"{present}"'}
        path = f"{_path(name)}/aliases/{quote(alias, safe='')}"
        body = json_body({"version": number, "reason": reason})
        try:
            self.call("PUT", path, content=body, headers={**JSON_HEADERS, **condition})
        except ServiceError:
            # The answer to a first attempt may be lost; then the alias is where the caller wants it.
            if self.model(name).aliases.get(alias) != number:
                raise
        return present

    def delete_version(self, name: str, number: int) -> None:
        """Delete a version; raises Conflict if an alias points to it."""
        self.call("DELETE", _version_path(name, number))

    def delete_model(self, name: str) -> None:
        """Delete a model with all versions; raises Conflict if an alias other than `candidate` exists."""
        self.call("DELETE", _path(name))

    def exports(self, name: str, number: int) -> ExportList:
        """Return the exports of a version to other runtimes."""
        return read_answer(ExportList, self.call("GET", f"{_version_path(name, number)}/exports"))

    def export(self, name: str, number: int, request: Mapping[str, Any]) -> JobView:
        """Submit a job that exports a version, see `VersionExportRequest`."""
        headers = {"Idempotency-Key": str(uuid.uuid4())} | JSON_HEADERS
        path = f"{_version_path(name, number)}/exports"
        return read_answer(JobView, self.call("POST", path, content=json_body(request), headers=headers))

    def download_archive(self, name: str, number: int, path: Path) -> None:
        """Write the archive of a version to a file, whose checksum is verified."""
        try:
            download(self, f"{_version_path(name, number)}/archive", path)
        except OSError as error:
            raise ServiceError(f"{path} cannot be written ({error.strerror}); choose another --output") from error


def _path(name: str) -> str:
    return f"/v1/models/{quote(name, safe='')}"


def _version_path(name: str, number: int) -> str:
    return f"{_path(name)}/versions/{number}"
