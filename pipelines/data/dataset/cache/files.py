"""Files of arrays in the user's cache folder. Torch-free.

A cache only saves time: files that are missing, damaged or of another version are ignored, and so is every error of
reading and writing. Files are replaced as a whole, so several processes may use one at once; the last one wins.
"""

import io
import os
import time
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import CACHE_VARIABLE

MAX_AGE_S = 90 * 24 * 3600.0
"""Files that were not read or written for this time are deleted when another one is written."""

SETTLED_S = 2.0
"""A file that is younger may change again without a new time of change, because file systems round it."""

_PROJECT = Path(__file__).resolve().parents[4]
_KEY = "key"


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return PYRAMIDION_CACHE_DIR, by default `pyramidion` in the user's cache folder.

    Raises:
        RuntimeError: the user has no home folder.
    """
    if named := environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyramidion"


def code_version(*parts: str) -> str:
    """Return a text that changes with the code of the packages and modules, and with Pillow."""
    digest = sha256(PIL.__version__.encode())
    for part in parts:
        place = _PROJECT / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def short_digest(text: str) -> str:
    """Return a part of a file name that stands for a text."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def read_arrays(name: str, key: str) -> dict[str, NDArray[np.generic]] | None:
    """Return the arrays of a file that was written with the same key; None if it is missing or damaged."""
    try:
        path = cache_dir() / name
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if stored[_KEY].tobytes() != key.encode():
                return None
            # Each member has a checksum, which is compared when it is read.
            arrays = {member: stored[member] for member in stored.files if member != _KEY}
        os.utime(path)
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return None
    return arrays


def write_arrays(name: str, key: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write a file, and delete old ones; nothing happens if the folder cannot be written."""
    content = io.BytesIO()
    np.savez(content, **{_KEY: np.frombuffer(key.encode(), np.uint8)}, **arrays)  # type: ignore[arg-type]
    try:
        folder = cache_dir()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _delete_old(folder)
        write_atomic(folder / name, content.getvalue())
    except (OSError, RuntimeError):
        return


def _delete_old(folder: Path) -> None:
    oldest = time.time() - MAX_AGE_S
    for path in folder.glob("*.npz"):
        if path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
