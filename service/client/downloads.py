"""Files of a job on the local disk, each with the checksum that the service states."""

from pathlib import Path

import httpx2

from pipelines.run_folder.files import rename_synced
from pipelines.run_folder.layout import RunDir
from service.client.client import Client
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
    """Write a file of the service to a path, and return the path; raises the errors of `download_predictions`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with client.stream(url, "*/*", {}) as response:
            with partial.open("wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
            require_digest(response, partial)
        rename_synced(partial, path)
        return path
    except httpx2.TransportError as error:
        raise client.unreachable(error) from error
    finally:
        partial.unlink(missing_ok=True)
