"""Write a new folder so that it never looks complete before it is. Torch-free."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.base.errors import DISK_FULL_ERRNOS, ConfigError, FieldProblem
from pipelines.run_folder.files import rename_synced

UNFINISHED = ".unfinished"
"""Everything is written to this folder inside of the new one, and moved out of it at the end."""


def require_new(path: Path, field: str) -> None:
    """Require that a folder is missing or empty, except for what an interrupted process has left.

    Raises:
        ConfigError: it is not, or it cannot be read.
    """
    try:
        is_new = not os.path.lexists(path) or (
            path.is_dir() and all(entry.name == UNFINISHED for entry in path.iterdir())
        )
        has_rest = not is_new and (path / UNFINISHED).exists()
    except OSError as error:
        raise ConfigError(FieldProblem(field, f"{path} cannot be read ({error.strerror})")) from None
    if not is_new:
        problem = "has an unfinished data set; remove it, or" if has_rest else "is not an empty folder;"
        raise ConfigError(FieldProblem(field, f"{path} {problem} choose a new folder"))


@contextmanager
def new_folder(path: Path, field: str, last: str) -> Iterator[Path]:
    """Yield a folder to write to; its content is moved to `path` at the end, and removed if an error occurs.

    What an interrupted process has left is removed by the next one.

    Args:
        path: a folder that is missing or empty.
        field: the option that names the folder, for messages.
        last: the file that is moved last.

    Raises:
        ConfigError: `path` is not an empty folder, or it cannot be written, for example because the disk is full.
    """
    require_new(path, field)
    unfinished = path / UNFINISHED
    existed = os.path.lexists(path)
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        for entry in sorted(unfinished.iterdir(), key=lambda entry: entry.name == last):
            rename_synced(entry, path / entry.name)
        unfinished.rmdir()
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):
                path.rmdir()
        if not isinstance(error, OSError):
            raise
        place = f"{error.filename2 or error.filename or path}".replace(f"/{UNFINISHED}", "")
        remedy = "free disk space, or choose" if error.errno in DISK_FULL_ERRNOS else "choose"
        message = f"{place} cannot be written ({error.strerror}); {remedy} another folder"
        raise ConfigError(FieldProblem(field, message)) from None
