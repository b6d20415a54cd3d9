"""SHA-256 of files, computed once for each state of a file. Torch-free.

A running job may replace a file at any moment, so that a digest belongs to an open file and not to a path.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

_NUM_KEPT = 4096

_digests: OrderedDict[tuple[int, ...], bytes] = OrderedDict()
_changing = threading.Lock()


@dataclass(frozen=True)
class FileState:
    """The size in bytes, the digest, and the time of the last change (seconds since 1970) of a file."""

    size: int
    sha256: bytes
    modified_at: float


def file_state(path: Path) -> FileState | None:
    """Return the state of a file; None if it was deleted meanwhile, or cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            digest, found = sha256_of(file), os.fstat(file.fileno())
    except OSError:
        return None
    return FileState(found.st_size, digest, found.st_mtime)


def sha256_of(file: FileIO) -> bytes:
    """Return the digest of a file that was opened and not read; it is cached until the file changes."""
    found = os.fstat(file.fileno())
    state = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
    with _changing:
        if state in _digests:
            _digests.move_to_end(state)
            return _digests[state]
    digest = hashlib.file_digest(file, "sha256").digest()
    with _changing:
        _digests[state] = digest
        if len(_digests) > _NUM_KEPT:
            _digests.popitem(last=False)
    return digest
