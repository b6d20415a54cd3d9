"""manifest.json of a backup: what it contains, and from where. It is written last, so a backup with one is complete."""

import json
from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.run_folder.schemas import FileSchema

FORMAT = 1
MANIFEST, ROWS, FILE_LIST, FILES, MLFLOW = "manifest.json", "database.jsonl", "files.jsonl", "files", "mlflow.db"


class BackupManifest(FileSchema):
    """Content of manifest.json.

    Attributes:
        format: of the backup.
        version: of this package that made it.
        created_at: seconds since 1970, before the first row was read.
        root: of the service, to which paths in MLflow's store refer.
        schema_version: of the database.
        database_sha256: of database.jsonl.
        num_rows: by table.
        numbers: the highest number that each numbered table has used.
        files_sha256: of files.jsonl, which has a line for each file.
        num_files: number of these lines.
        num_bytes: of all files together.
        mlflow: address of the MLflow store; its file is part of the backup if `mlflow_sha256` is set.
    """

    format: int
    version: str
    created_at: float
    root: str
    schema_version: str
    database_sha256: str
    num_rows: dict[str, int]
    numbers: dict[str, int]
    files_sha256: str
    num_files: int
    num_bytes: int
    mlflow: str
    mlflow_sha256: str | None = None


def read_manifest(folder: Path) -> BackupManifest:
    """Return the manifest of a backup.

    Raises:
        ConfigError: it is missing or has another format.
    """
    try:
        manifest = BackupManifest.read(folder / MANIFEST)
    except (OSError, ValueError) as error:
        message = f"{folder} is not a complete backup: {MANIFEST} cannot be read; name a folder that backup has written"
        raise ConfigError(FieldProblem("DIR", message)) from error
    if manifest.format != FORMAT:
        message = f"{folder} has the format {manifest.format} of a newer version"
        raise ConfigError(FieldProblem("DIR", f"{message}; restore it with pyramidion {manifest.version}"))
    return manifest


def file_lines(folder: Path) -> list[tuple[str, int, str]]:
    """Return path, size and SHA-256 of each file of a backup."""
    lines = (folder / FILE_LIST).read_text("utf-8").splitlines()
    return [(path, size, digest) for path, size, digest in map(json.loads, lines)]
