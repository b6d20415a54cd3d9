"""Paths in documents and label files: relative to a root, and never outside of it. Torch-free."""

import errno
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from pipelines.base.links import require_inside

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Extensions, in lower case, of the files that count as images."""


def _require_relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not path or PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path:
        raise ValueError(f"got {path!r}; write a path below the data root, relative and without '..'")
    return path


RelativePath = Annotated[str, AfterValidator(_require_relative)]
"""A path below its root. `{split}` in it stands for the split's name on disk (see `SourceSpec.splits`)."""

IGNORED_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
"""Folders that archive tools and file servers add to data, and that contain no images."""


def is_ignored(path: PurePath) -> bool:
    """Return whether a path below a data root is hidden, or inside of a folder that a tool has added."""
    return any(part in IGNORED_FOLDERS or (part.startswith(".") and part != ".") for part in path.parts)


def below(root: Path, relative: str) -> Path:
    """Return the path `relative` inside `root`, with links resolved (see `pipelines.base.links`).

    The system accepts the path: it exists, or it is only missing.

    Raises:
        ValueError: the path is absolute, contains `..`, leaves the root through a link, or the system refuses it (it is
            too long, unreadable, or has characters that no file name can have).
    """
    if not relative or "\0" in relative or PurePosixPath(relative).is_absolute():
        raise ValueError(f"got {relative!r}; write a path relative to {root}")
    if ".." in PurePosixPath(relative).parts:
        raise ValueError(f"got {relative!r}; write it without '..'")
    try:
        path = (root / relative).resolve()
        path.stat()
    except FileNotFoundError:
        pass
    except UnicodeEncodeError:
        raise ValueError(
            f"{relative!r} has characters that no file name can have; rename the file and correct the name"
        ) from None
    except (OSError, RuntimeError) as error:  # pathlib raises a RuntimeError where links form a loop
        if getattr(error, "errno", None) != errno.ENOTDIR:
            reason = getattr(error, "strerror", None) or "its links form a loop"
            raise ValueError(f"the system refuses {_shortened(relative)} ({reason}); correct or rename it") from None
    require_inside(path, root, relative)
    return path


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 120 else f"{text[:60]}...{text[-40:]}")


def normalized(file_name: str) -> str:
    """Return `file_name` without `./` and doubled slashes, so that all layers spell it the same way."""
    return str(PurePosixPath(file_name))
