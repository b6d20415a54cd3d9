"""Folders that get their name when they are complete."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.file_lock import file_lock
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.files import remove_folder, rename_synced


@contextmanager
def new_folder(exports: ExportsDir) -> Iterator[Path]:
    """Yield a hidden folder, which is removed if it was not renamed; those of killed exports are removed too.

    Raises:
        ConfigError: another process exports the same model.
    """
    exports.path.mkdir(parents=True, exist_ok=True)
    try:
        with file_lock(exports.lock, timeout_s=0):
            for left in exports.path.glob(".new-*"):
                remove_folder(left)
            folder = Path(tempfile.mkdtemp(prefix=".new-", dir=exports.path))
            folder.chmod(0o755)
            try:
                yield folder
            finally:
                remove_folder(folder)
    except TimeoutError as error:
        message = f"{exports.path} is used by another export; start this one when that has ended"
        raise ConfigError(FieldProblem("--run-dir", message)) from error


def replace_folder(target: Path, folder: Path) -> None:
    """Give a complete folder its name; an earlier folder of this name is removed afterwards."""
    old = folder.with_name(f"{folder.name}-old")
    if target.exists():
        rename_synced(target, old)
    rename_synced(folder, target)
    remove_folder(old)
