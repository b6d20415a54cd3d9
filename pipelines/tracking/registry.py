"""Registered models: versions, and the aliases `candidate` and `champion`. Torch-free; MLflow is imported when used.

The tags of a version hold what later runs compare with: its metrics on val, and the fingerprint of that val data.
`pipelines.tracking.promotion` decides which version becomes the champion.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.base.errors import RegistryError
from pipelines.spec.exported_variant import VariantResult
from pipelines.spec.learning import SelectSpec
from pipelines.tracking.mlflow_names import cut, mlflow_key
from pipelines.tracking.mlflow_queries import pages, quoted, unless_absent
from pipelines.tracking.mlflow_store import Store, connect, one_line
from pipelines.tracking.model_archive import archive_facts
from pipelines.tracking.model_artifacts import add_files, delete_files, download_files, made_by_mlflow, read_description
from pipelines.tracking.model_versions import (
    FINGERPRINT_TAG,
    OWNER_TAG,
    SELECT_TAG,
    SHA256_TAG,
    SIZE_TAG,
    ModelVersion,
    RegisteredModel,
    as_model,
    as_version,
)
from pipelines.tracking.pyfunc_folder import ARTIFACT, save_pyfunc
from pipelines.tracking.stored_exports import EXPORT_TAG, StoredExport, stored_export

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

CANDIDATE, CHAMPION = "candidate", "champion"


class Registry:
    """The model registry of one store.

    Every method raises `RegistryError` if MLflow does not respond or refuses the request.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def register(
        self,
        exported: Path,
        *,
        name: str,
        run_id: str,
        metrics: Mapping[str, float | None],
        select: SelectSpec,
        val_fingerprint: str,
    ) -> ModelVersion:
        """Register the model of a run as a new version with the alias `candidate`; later calls return that version.

        Args:
            exported: the folder that `pipelines.inference.export` writes.
            name: the registered model, which is created if it does not exist.
            run_id: the MLflow run that the version belongs to.
            metrics: on val, such as `val/cells/AP`; undefined ones are skipped.
            select: the metric that champions are compared by.
            val_fingerprint: of the val data.
        """
        with self._connected():
            version = self._owned_version(name, run_id)
            if version is None:
                archive = archive_facts(exported)
                version_tags = {
                    **{key: repr(float(x)) for key, x in metrics.items() if x is not None},
                    OWNER_TAG: run_id,
                    FINGERPRINT_TAG: val_fingerprint,
                    SELECT_TAG: f"{select.mode} {select.metric}",
                    SHA256_TAG: archive.sha256,
                    SIZE_TAG: str(archive.num_bytes),
                }
                version = self._create_version(exported, name, run_id, version_tags)
            with self.store.locked("aliases"):
                candidate = self.by_alias(name, CANDIDATE)
                if candidate is None or candidate.version < version.version:
                    self.set_alias(name, CANDIDATE, version.version)
            return self._version(name, version.version) or version

    def models(self) -> list[RegisteredModel]:
        """Return all registered models, sorted by name."""
        with self._connected() as client:
            return [as_model(row) for row in pages(client.search_registered_models, order_by=["name"])]

    def versions_of_runs(self, run_ids: Sequence[str]) -> list[ModelVersion]:
        """Return the versions that some MLflow runs have registered, without their aliases."""
        with self._connected() as client:
            rows = [
                row
                for run_id in run_ids
                for row in pages(client.search_model_versions, filter_string=f"run_id = {quoted(run_id)}")
            ]
            return [as_version(row, {}) for row in rows]

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions of a model, newest first; an empty list if the model does not exist."""
        with self._connected() as client:
            if (aliases := self._aliases(name)) is None:
                return []
            found = pages(client.search_model_versions, filter_string=f"name = {quoted(name)}")
            return sorted((as_version(row, aliases) for row in found), key=lambda v: -v.version)

    def runs_of_models(self) -> frozenset[str]:
        """Return the ids of the MLflow runs that versions of any model belong to."""
        with self._connected() as client:
            return frozenset(row.run_id for row in pages(client.search_model_versions) if row.run_id)

    def version(self, name: str, number: int) -> ModelVersion | None:
        """Return one version; None if it does not exist."""
        with self._connected():
            return self._version(name, number)

    def aliases(self, name: str) -> dict[str, int] | None:
        """Return the versions that the aliases of a model point to; None if the model does not exist."""
        with self._connected():
            return self._aliases(name)

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version that an alias points to; None if the alias does not exist."""
        with self._connected():
            number = (self._aliases(name) or {}).get(alias)
            return None if number is None else self._version(name, number)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point an alias to a version, instead of its previous one."""
        with self._connected() as client:
            client.set_registered_model_alias(name, alias, str(version))

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove an alias; a missing one is ignored."""
        with self._connected() as client:
            client.delete_registered_model_alias(name, alias)

    def download_exported(self, version: ModelVersion, folder: Path, export: StoredExport | None = None) -> Path:
        """Download a version, or one of its exports to other runtimes, into `folder`, and return the path there.

        Raises:
            ModelFilesUnavailable: its files are missing, or at an address that is not fetched.
        """
        with self._connected() as client:
            source = client.get_model_version_download_uri(version.name, str(version.version))
            inside = ARTIFACT if export is None else export.path
            return download_files(self.store, source, folder, version.uri, inside)

    def add_export(self, version: ModelVersion, folder: Path, result: VariantResult) -> None:
        """Add the export in a folder to a version, instead of an earlier one of its name; raises ModelFilesUnavailable
        if the files of the version are not in the storage of MLflow."""
        stored = stored_export(folder, result)
        with self._connected() as client:
            present = self._version(version.name, version.version) or version
            if present.exports.get(result.name) == stored:
                return  # an earlier attempt has added it, and its files may be in use
            add_files(self.store, client, version.source, folder, stored.path, version.uri)
            with self.store.locked("exports"):
                present = self._version(version.name, version.version) or version
                self.set_version_tag(version, EXPORT_TAG + result.name, stored.model_dump_json())
            if (earlier := present.exports.get(result.name)) is not None and earlier.folder != stored.folder:
                delete_files(self.store, version.source, f"artifacts/{earlier.path}")

    def read_description(self, version: ModelVersion) -> dict[str, Any]:
        """Return `model.json` of a version; raises ModelFilesUnavailable, as `download_exported`."""
        with self._connected() as client:
            source = client.get_model_version_download_uri(version.name, str(version.version))
            return read_description(self.store, source, version.uri)

    def remove_version(self, version: ModelVersion) -> bool:
        """Remove a version and its files; return whether the files are removed too.

        Files that another version has too, or that MLflow did not make for this one, are kept.
        """
        with self._connected() as client:
            client.delete_model_version(version.name, str(version.version))
            return self._remove_files(client, version)

    def remove_model(self, name: str) -> bool:
        """Remove a model with all versions and their files; return whether all files are removed."""
        versions = self.versions(name)
        with self._connected() as client:
            client.delete_registered_model(name)
            are_removed = [self._remove_files(client, version) for version in versions]
            return all(are_removed)

    def tags(self, name: str) -> dict[str, str]:
        """Return the tags of a model; none if it does not exist."""
        with self._connected() as client:
            row = unless_absent(client.get_registered_model, name)
            return {} if row is None else dict(row.tags)

    def create_model(self, name: str, tags: Mapping[str, str]) -> None:
        """Create a model without versions; one that exists remains as it is, with its tags."""
        with self._connected() as client:
            from mlflow.exceptions import MlflowException

            try:
                client.create_registered_model(name, dict(tags))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def set_tag(self, name: str, key: str, text: str) -> None:
        """Set a tag of a model."""
        with self._connected() as client:
            client.set_registered_model_tag(name, key, text)

    def set_version_tag(self, version: ModelVersion, key: str, text: str) -> None:
        """Set a tag of a version."""
        with self._connected() as client:
            client.set_model_version_tag(version.name, str(version.version), key, text)

    def remove_tag(self, name: str, key: str) -> None:
        """Remove a tag of a model."""
        with self._connected() as client:
            client.delete_registered_model_tag(name, key)

    def _remove_files(self, client: "MlflowClient", version: ModelVersion) -> bool:
        """Remove files that MLflow made for this version, and never others that a version names as its source."""
        model_id = made_by_mlflow(version.source)
        if model_id is None or client.search_model_versions(f"source_path = '{version.source}'", max_results=1):
            return False
        try:
            if client.get_logged_model(model_id).artifact_location != version.source:
                return False
            delete_files(self.store, version.source)
            client.delete_logged_model(model_id)
        except Exception as error:  # as in `model_artifacts`; the version itself is removed
            logger.warning("the files of %s remain at %s: %s", version.uri, version.source, one_line(error))
            return False
        return True

    @cached_property
    def _client(self) -> "MlflowClient":
        return connect(self.store)

    @contextmanager
    def _connected(self) -> Iterator["MlflowClient"]:
        """Yield the client, and raise MLflow's errors as RegistryError."""
        client = self._client
        from mlflow.exceptions import MlflowException

        try:
            yield client
        except (MlflowException, OSError) as error:
            raise RegistryError(f"MLflow at {self.store.label}: {one_line(error)}") from error

    def _aliases(self, name: str) -> dict[str, int] | None:
        row = unless_absent(self._client.get_registered_model, name)
        return None if row is None else {alias: int(version) for alias, version in row.aliases.items()}

    def _version(self, name: str, number: int) -> ModelVersion | None:
        row = unless_absent(self._client.get_model_version, name, str(number))
        return None if row is None else as_version(row, self._aliases(name) or {})

    def _owned_version(self, name: str, owner: str) -> ModelVersion | None:
        found = self._client.search_model_versions(f"name = {quoted(name)} and tags.`{OWNER_TAG}` = '{owner}'")
        return as_version(found[0], {}) if found else None

    def _create_version(self, exported: Path, name: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """Log the model and register it; tags are part of the same request, so that a version always has its owner."""
        from mlflow.entities import LoggedModelOutput

        client = self._client
        experiment_id = client.get_run(run_id).info.experiment_id
        logged = client.create_logged_model(experiment_id, name=name, source_run_id=run_id, model_type="pyramidion")
        try:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "pyfunc"
                save_pyfunc(
                    exported, folder, run_id=run_id, model_id=logged.model_id, location=logged.artifact_location
                )
                client.log_model_artifacts(logged.model_id, str(folder))
        except BaseException:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
        self.create_model(name, {})
        row = client.create_model_version(
            name,
            # Not "models:/<id>": the SQL store resolves that in the process's global store, not in this client's.
            logged.artifact_location,
            run_id=run_id,
            tags={mlflow_key(key): cut(text) for key, text in tags.items()},
            model_id=logged.model_id,
        )
        return as_version(row, {})
