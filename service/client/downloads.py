"""Files of a job on the local disk, each with the checksum that the service states."""

from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

import httpx2

from pipelines.run_folder.files import rename_synced
from pipelines.run_folder.layout import RunDir
from service.client.client import RETRY_BROKEN_S, RETRY_S, Client
from service.client.patience import Patience
from service.client.responses import job_path, require_digest

_RUN = RunDir.of(Path())
SUMMARIES = (_RUN.images_csv.name, _RUN.result.name)
"""Files of a job that describe its predictions."""


def download_predictions(client: Client, job_id: str, folder: Path) -> list[Path]:
    """Write the files with predictions of a job and its summaries to a folder, and return their paths.

    Raises:
        ServiceError: a file differs from its checksum.
        OSError: a file cannot be written.
    """
    urls = [file.url for file in client.prediction_files(job_id)]
    paths = {artifact.path for artifact in client.artifacts(job_id)}
    urls += [f"{job_path(job_id)}/artifacts/{name}" for name in SUMMARIES if name in paths]
    return [download(client, url, folder / url.rpartition("/")[2]) for url in urls]


def download(client: Client, url: str, path: Path) -> Path:
    """Write a file of the service to a path, and return the path; raises the errors of `download_predictions`.

    A download that breaks off is resumed, unless the file has changed meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            response = _receive(client, url, file)
        require_digest(response, partial)
        rename_synced(partial, path)
        return path
    finally:
        partial.unlink(missing_ok=True)


def _receive(client: Client, url: str, file: BinaryIO) -> httpx2.Response:
    """Write a file of the service to an open file, and return the last response."""
    patience, tag = Patience(), ""
    while True:
        begun = file.tell()
        rest = {"Range": f"bytes={begun}-", "If-Range": tag} if begun and tag else {}
        try:
            with client.stream(url, "*/*", {}, rest) as response:
                if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                    file.seek(0)
                    file.truncate()
                tag = response.headers.get("etag", "")
                for chunk in response.iter_bytes():
                    file.write(chunk)
                return response
        except httpx2.TransportError as error:
            if file.tell() > begun:
                patience = Patience()
            if not patience.wait(RETRY_BROKEN_S if file.tell() else RETRY_S):
                raise client.unreachable(error) from error
