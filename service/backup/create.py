"""Write a backup while the service runs.

The order makes its parts consistent: the database is read first, in one state. Everything that it names existed then
and is copied later, so files may be newer than the rows, but never older. A job that was active resumes from a
checkpoint that is at least as new; events that were imported are in the file that they came from. MLflow's runs are
created before the database names them, and its artifacts before its models name them.
"""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.run_folder.files import create_folder
from pipelines.tracking.mlflow_store import find_store
from service.backup.copying import copy_file, copy_sqlite, files_below, sha256_of
from service.backup.manifest import FILE_LIST, FILES, FORMAT, MANIFEST, MLFLOW, ROWS, BackupManifest
from service.backup.unfinished import require_finished
from service.datasets.folder import ARCHIVES, INCOMING, is_check_folder
from service.settings import Settings
from service.store.copies import DatabaseCopy, dump_rows
from service.store.database import Database
from service.version import version

_LEFT_OUT = re.compile(r"(service|mlflow)\.db(-wal|-shm|-journal|\.lock)?|models|(supervisor|serve)\.lock")
"""Entries of the root that are copied in another way, or belong to processes; `models` is a cache."""


def create_backup(
    settings: Settings, engine: Database, folder: Path, report: Callable[[str], None] = lambda line: None
) -> BackupManifest:
    """Write a backup of a service to a new folder, and return its manifest.

    Raises:
        ConfigError: the folder is not empty, or is in the root, or a restore into the root has not finished.
        StoreUnavailable: the database cannot be read at the moment.
        OSError: the folder cannot be written.
    """
    _require_new(settings.root, folder)
    require_finished(settings.root)
    create_folder(folder)
    created_at = time.time()
    with (folder / ROWS).open("w", encoding="utf-8") as rows:
        copy = dump_rows(engine, rows.write)
    report(f"{sum(copy.num_rows.values()):,} rows of the database")
    mlflow_sha256 = _copy_mlflow(settings.root, folder)
    report("the MLflow store" if mlflow_sha256 else "without the MLflow store, which is a server or does not exist")
    num_files, num_bytes = _copy_files(settings.root, folder, copy)
    report(f"{num_files:,} files, {num_bytes:,} bytes")
    manifest = BackupManifest(
        format=FORMAT, version=version(), created_at=created_at, root=str(settings.root),
        schema_version=copy.schema, database_sha256=sha256_of(folder / ROWS)[1], num_rows=copy.num_rows,
        numbers=copy.numbers, files_sha256=sha256_of(folder / FILE_LIST)[1], num_files=num_files,
        num_bytes=num_bytes, mlflow=find_store(settings.root).label, mlflow_sha256=mlflow_sha256,
    )  # fmt: skip
    # All files must be on the disk before the manifest says that the backup is complete.
    os.sync()
    manifest.write(folder / MANIFEST)
    return manifest


def _require_new(root: Path, folder: Path) -> None:
    path = folder.resolve()
    if path.is_relative_to(root):
        raise ConfigError(FieldProblem("DIR", f"{folder} is in the root of the service; choose a folder elsewhere"))
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(FieldProblem("DIR", f"{folder} is not an empty folder; choose a new one"))


def _copy_mlflow(root: Path, folder: Path) -> str | None:
    """Copy MLflow's SQLite file if the service uses the one in its root, and return its SHA-256."""
    store = root / "mlflow.db"
    if "MLFLOW_TRACKING_URI" in os.environ or not store.exists():
        return None
    copy_sqlite(store, folder / MLFLOW)
    return sha256_of(folder / MLFLOW)[1]


def _copy_files(root: Path, folder: Path, copy: DatabaseCopy) -> tuple[int, int]:
    num_files = num_bytes = 0
    with (folder / FILE_LIST).open("w", encoding="utf-8") as listing:
        for path in files_below(root, _is_copied):
            relative = path.relative_to(root)
            if _is_newer(relative.parts, copy):
                continue
            try:
                size, digest = copy_file(path, folder / FILES / relative)
            except FileNotFoundError:
                continue  # a temporary file, or the folder of a job that was deleted meanwhile
            listing.write(json.dumps([str(relative), size, digest]) + "\n")
            num_files, num_bytes = num_files + 1, num_bytes + size
    return num_files, num_bytes


def _is_copied(entry: Path) -> bool:
    return _LEFT_OUT.fullmatch(entry.name) is None


def _is_newer(parts: tuple[str, ...], copy: DatabaseCopy) -> bool:
    """Return whether a file belongs to an upload or a check in progress, or to a job or a data set without a row.

    Jobs and data sets were added after the rows had been read; nothing would ever delete their files.
    """
    match parts:
        case ("jobs", job_id, _, *_):
            return job_id not in copy.job_ids
        case ("datasets", folder, _, *_) if folder == INCOMING or is_check_folder(folder):
            return True
        case ("datasets", folder, _, owner) if folder == ARCHIVES:
            return owner not in copy.dataset_ids
        case ("datasets", dataset_id, _, *_) if dataset_id != ARCHIVES:
            return dataset_id not in copy.dataset_ids
    return False
