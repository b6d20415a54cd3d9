"""Calls about the data sets of a service."""

import hashlib
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.printable import printable
from service.client.client import FOLLOW_RETRY_S, RETRY_S, Client
from service.client.pages import read_pages
from service.client.responses import JSON_HEADERS, json_body, read_answer
from service.rest.dataset_schemas import DatasetPage, DatasetSummary, DatasetView
from service.store.dataset_records import DatasetStatus

PATH = "/v1/datasets"
UPLOAD_READ_S = 600.0
"""The service stores an archive before it responds."""
POLL_S = 0.5
NEWEST = "latest"

Progress = Callable[[int], None]
"""Takes the number of bytes that were sent so far."""


def upload_archive(
    client: Client, name: str, archive: Path, sources: Mapping[str, Any] | None, progress: Progress
) -> DatasetView:
    """Upload an archive as a version of a data set; uploading the same content again returns the same version.

    Raises:
        ConfigError: the file cannot be read, or the service refuses the archive.
    """
    with _opened(archive) as file:
        fields = {"name": name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        if sources is not None:
            fields["sources"] = json.dumps(sources)
        file.seek(0)
        # The local file name is private and not sent.
        files = {"archive": ("archive", _CountedFile(file, progress))}
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


@contextmanager
def packed(folder: Path) -> Iterator[Path]:
    """Provide a temporary zip with the files of a folder; equal files give equal archives.

    The files are stored without compression: images are compressed already.
    """
    with tempfile.TemporaryDirectory(prefix="pyramidion-upload-") as place:
        path = Path(place, "archive.zip")
        with zipfile.ZipFile(path, "w", strict_timestamps=False) as archive:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                with (
                    file.open("rb") as source,
                    archive.open(zipfile.ZipInfo(file.relative_to(folder).as_posix()), "w", force_zip64=True) as target,
                ):
                    while chunk := source.read(1 << 20):
                        target.write(chunk)
        yield path


class _CountedFile:
    """A file that reports how much of it was read."""

    def __init__(self, file: BufferedReader, progress: Progress) -> None:
        self._file, self._progress = file, progress

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._progress(self._file.tell())
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def fileno(self) -> int:
        return self._file.fileno()


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        file = path.open("rb")
    except OSError as error:
        message = f"cannot be read ({error.strerror}); name an archive or a folder"
        raise ConfigError(FieldProblem(printable(str(path)), message)) from error
    with file:
        yield file


def _path(reference: str) -> str:
    name, _, version = reference.partition("@")
    return f"{PATH}/{quote(name, safe='')}/versions/{quote(version or NEWEST, safe='')}"
