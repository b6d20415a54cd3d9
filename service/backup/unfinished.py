"""The mark of a restore that has not ended: no service starts on such a root, and the restore can be repeated."""

import shutil
from pathlib import Path

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.run_folder.files import create_folder, write_atomic

MARK = "restore-in-progress"


def mark_unfinished(root: Path, backup: Path) -> None:
    """Create the root with the mark, or empty one in which an earlier restore was interrupted.

    Raises:
        ConfigError: the root contains anything else.
        OSError: the root cannot be written.
    """
    if is_unfinished(root):
        for path in root.iterdir():
            if path.name == MARK:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return
    require_empty_root(root)
    create_folder(root)
    write_atomic(root / MARK, f"{backup.resolve()}\n")


def require_empty_root(root: Path) -> None:
    """Raise ConfigError if the root has content that no interrupted restore has written."""
    if is_unfinished(root):
        return
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(FieldProblem("--root", f"{root} is not an empty folder; restore into a new one"))


def remove_mark(root: Path) -> None:
    """Let services start on the root."""
    (root / MARK).unlink()


def is_unfinished(root: Path) -> bool:
    """Return whether a restore into the root was started and has not ended."""
    return (root / MARK).exists()


def require_finished(root: Path) -> None:
    """Raise ConfigError if a restore into the root has not ended."""
    if is_unfinished(root):
        message = (
            f"{str(root)!r} is incomplete, since `pyramidion restore` has not finished or was interrupted; wait for "
            "it, or run it again with the same --root and --database-url"
        )
        raise ConfigError(FieldProblem("--root", message))
