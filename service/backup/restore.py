"""Restore a backup into an empty root and an empty database.

Everything is verified before anything is written. Paths of the old root in MLflow's store and in the run folders are
replaced by the new one. Jobs that were active when the backup was made are queued again and resume.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.tracking_files import TrackingState
from pipelines.tracking.mlflow_store import find_store, sqlite_url
from service.backup.copying import copy_file, replace_prefix, sha256_of
from service.backup.manifest import (
    FILE_LIST,
    FILES,
    MLFLOW,
    ROWS,
    BackupManifest,
    file_lines,
    read_manifest,
)
from service.backup.unfinished import mark_unfinished, remove_mark, require_empty_root
from service.settings import Settings
from service.store.copies import load_rows, stop_attempts
from service.store.restoring import require_restorable

MAX_SHOWN = 5


@dataclass(frozen=True)
class Restored:
    """The result: the manifest, and the jobs that will resume."""

    manifest: BackupManifest
    resumed: list[str]


def restore_backup(settings: Settings, folder: Path, report: Callable[[str], None] = lambda line: None) -> Restored:
    """Restore a backup.

    Raises:
        ConfigError: the backup is incomplete or damaged, or the root is not empty.
        ValueError: the database is not empty, or a running service uses it.
        StoreUnavailable: the database cannot be used at the moment.
        OSError: the root cannot be written.
    """
    manifest = read_manifest(folder)
    require_empty_root(settings.root)
    require_restorable(settings.url_of_database, settings.lease_s)
    files = verify_backup(folder, manifest)
    report(f"{len(files):,} files are verified")
    mark_unfinished(settings.root, folder)
    for path, _, _ in files:
        copy_file(folder / FILES / path, settings.root / path)
    if manifest.mlflow_sha256 is not None:
        copy_file(folder / MLFLOW, settings.root / MLFLOW)
    report("the files are copied")
    _relocate(settings.root, Path(manifest.root), manifest)
    settings.jobs_dir.mkdir(exist_ok=True)
    with (folder / ROWS).open(encoding="utf-8") as rows:
        engine = load_rows(settings.url_of_database, rows, manifest.schema_version, manifest.numbers)
    try:
        resumed = stop_attempts(engine)
    finally:
        engine.dispose()
    os.sync()
    remove_mark(settings.root)
    return Restored(manifest, resumed)


def verify_backup(folder: Path, manifest: BackupManifest) -> list[tuple[str, int, str]]:
    """Return the files of a backup after comparing all checksums.

    Raises:
        ConfigError: a file is missing or has changed, or a path leads out of the backup.
    """
    whole = {ROWS: manifest.database_sha256, FILE_LIST: manifest.files_sha256}
    if manifest.mlflow_sha256 is not None:
        whole[MLFLOW] = manifest.mlflow_sha256
    damaged = [name for name, digest in whole.items() if _digest(folder / name) != digest]
    if damaged:
        raise _damaged(folder, damaged)
    files = file_lines(folder)
    if outside := [path for path, _, _ in files if Path(path).is_absolute() or ".." in Path(path).parts]:
        raise _damaged(folder, outside)
    damaged = [path for path, _, digest in files if _digest(folder / FILES / path) != digest]
    if damaged:
        raise _damaged(folder, damaged)
    return files


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)[1]
    except OSError:
        return None


def _damaged(folder: Path, names: list[str]) -> ConfigError:
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    shown = ", ".join(names[:MAX_SHOWN])
    return ConfigError(
        FieldProblem("DIR", f"{folder} is damaged: {shown}{more} cannot be read or have changed; use another backup")
    )


def _relocate(root: Path, old: Path, manifest: BackupManifest) -> None:
    """Replace the old root in MLflow's store, and its address in the run folders."""
    if manifest.mlflow_sha256 is None or root == old:
        return
    for before, after in ((old.as_uri(), root.as_uri()), (str(old), str(root))):
        replace_prefix(root / MLFLOW, f"{before}/", f"{after}/")
    address = find_store(root).label if "MLFLOW_TRACKING_URI" not in os.environ else sqlite_url(root / MLFLOW)
    for run in (root / "jobs").glob("*"):
        path = RunDir.of(run).tracking_state
        state = TrackingState.read_if_valid(path)
        if state is not None and state.tracking_uri == manifest.mlflow:
            state.model_copy(update={"tracking_uri": address}).write(path)
