"""Calls about the data sets of a service."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from service.client.archives import UPLOAD_READ_S, Progress, opened_archive, sent_archive
from service.client.client import FOLLOW_RETRY_S, RETRY_S, Client
from service.client.pages import read_pages
from service.client.responses import JSON_HEADERS, json_body, read_answer
from service.rest.dataset_schemas import DatasetPage, DatasetSummary, DatasetView
from service.store.dataset_records import DatasetStatus

PATH = "/v1/datasets"
POLL_S = 0.5
NEWEST = "latest"


def upload_archive(
    client: Client, name: str, archive: Path, sources: Mapping[str, Any] | None, progress: Progress
) -> DatasetView:
    """Upload an archive as a version of a data set; uploading the same content again returns the same version.

    Raises:
        ConfigError: the file cannot be read, or the service refuses the archive.
    """
    with opened_archive(archive) as file:
        fields = {"name": name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        if sources is not None:
            fields["sources"] = json.dumps(sources)
        files = sent_archive(file, progress)
        return read_answer(DatasetView, client.call("POST", PATH, data=fields, files=files, timeout_s=UPLOAD_READ_S))


def register_folder(client: Client, name: str, folder: str, sources: Mapping[str, Any] | None) -> DatasetView:
    """Register a folder below a data root of the service as a version of a data set."""
    request = {"name": name, "folder": folder, **({} if sources is None else {"sources": sources})}
    return read_answer(DatasetView, client.call("POST", PATH, content=json_body(request), headers=JSON_HEADERS))


def list_datasets(client: Client, name: str | None, limit: int) -> list[DatasetSummary]:
    """Return the newest versions."""
    filters = {} if name is None else {"name": name}

    def read_page(position: dict[str, Any]) -> DatasetPage:
        return read_answer(DatasetPage, client.call("GET", PATH, params=filters | position))

    return read_pages(read_page, lambda page: page.datasets, limit)


def find_dataset(client: Client, reference: str, *, patience_s: float = RETRY_S) -> DatasetView:
    """Return the version NAME@VERSION, or for NAME the newest one that is ready."""
    return read_answer(DatasetView, client.call("GET", _path(reference), patience_s=patience_s))


def delete_dataset(client: Client, reference: str) -> None:
    """Delete the version NAME@VERSION; raises Conflict while a job or a model needs it."""
    client.call("DELETE", _path(reference))


def wait_until_checked(client: Client, reference: str) -> DatasetView:
    """Return a version once its check has ended."""
    while (view := find_dataset(client, reference, patience_s=FOLLOW_RETRY_S)).status is DatasetStatus.CHECKING:
        time.sleep(POLL_S)
    return view


def _path(reference: str) -> str:
    name, _, version = reference.partition("@")
    return f"{PATH}/{quote(name, safe='')}/versions/{quote(version or NEWEST, safe='')}"
