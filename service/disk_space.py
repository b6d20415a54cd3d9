"""The free space of the disk of the root, below which new work is refused. Torch-free."""

import shutil

from service.settings import Settings


class DiskAlmostFull(Exception):
    """The disk has less free space than running jobs may need."""


def require_free_space(settings: Settings) -> int:
    """Return the free bytes of the disk of the root.

    Raises:
        DiskAlmostFull: they are fewer than `min_free_bytes`.
        OSError: the disk cannot be read.
    """
    free = shutil.disk_usage(settings.root).free
    if free < settings.min_free_bytes:
        raise DiskAlmostFull(
            f"{free >> 20} MiB are free on the disk of the root, fewer than the {settings.min_free_bytes >> 20} MiB of "
            "PYRAMIDION_MIN_FREE_BYTES, so that running jobs can end; delete jobs or data sets, or let the operator "
            "run `pyramidion gc` or enlarge the disk"
        )
    return free
