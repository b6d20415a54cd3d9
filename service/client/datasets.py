"""Calls about the data sets of a service."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from service.client.archives import UPLOAD_READ_S, Progress, opened_archive, sent_archive
from service.client.client import PAGE, Client
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
    found: list[DatasetSummary] = []
    cursor = None
    while len(found) < limit:
        params = {"limit": min(PAGE, limit - len(found)), "name": name, "cursor": cursor}
        given = {key: value for key, value in params.items() if value is not None}
        page = read_answer(DatasetPage, client.call("GET", PATH, params=given))
        found += page.datasets
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def find_dataset(client: Client, reference: str) -> DatasetView:
    """Return the version NAME@VERSION, or for NAME the newest one that is ready."""
    return read_answer(DatasetView, client.call("GET", _path(reference)))


def delete_dataset(client: Client, reference: str) -> None:
    """Delete the version NAME@VERSION; raises Conflict while a job or a model needs it."""
    client.call("DELETE", _path(reference))


def wait_until_checked(client: Client, reference: str) -> DatasetView:
    """Return a version once its check has ended."""
    while (view := find_dataset(client, reference)).status is DatasetStatus.CHECKING:
        time.sleep(POLL_S)
    return view


def _path(reference: str) -> str:
    name, _, version = reference.partition("@")
    return f"{PATH}/{quote(name, safe='')}/versions/{quote(version or NEWEST, safe='')}"
