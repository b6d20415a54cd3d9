"""The free space of the disk of the root, below which new work is refused. Torch-free."""

import shutil
from pathlib import Path

from service.settings import Settings


class DiskAlmostFull(Exception):
    """The disk has less free space than running jobs may need."""


def require_free_space(settings: Settings, needed_bytes: int = 0) -> int:
    """Return the free bytes of the disk of the root.

    Args:
        settings: with the root and the limit.
        needed_bytes: which the caller will write.

    Raises:
        DiskAlmostFull: they are, or would be, fewer than `min_free_bytes`.
        OSError: the disk cannot be read.
    """
    return require_free_bytes(settings.root, settings.min_free_bytes, needed_bytes)


def require_free_bytes(folder: Path, min_free_bytes: int, needed_bytes: int = 0) -> int:
    """Return the free bytes of the disk of a folder below the root; see `require_free_space`."""
    free = shutil.disk_usage(folder).free
    if free - needed_bytes < min_free_bytes:
        need = f" and {needed_bytes >> 20} MiB are needed" if needed_bytes >> 20 else ""
        raise DiskAlmostFull(
            f"{free >> 20} MiB are free on the disk of the root{need}, but {min_free_bytes >> 20} MiB "
            "(PYRAMIDION_MIN_FREE_BYTES) must remain free, so that running jobs can end; delete jobs or data sets, or "
            "let the operator run `pyramidion gc` or enlarge the disk"
        )
    return free
