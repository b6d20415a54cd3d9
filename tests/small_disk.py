"""A small disk of its own, which a test can fill."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Mount a disk of a size such as `4m` in a folder that all users can reach; skip the test where that is refused."""
    disk = Path(tempfile.mkdtemp(prefix="pyramidion-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        disk.rmdir()
        pytest.skip("only root may mount a file system, if the container allows it")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
    disk.rmdir()


def fill(disk: Path, free_bytes: int = 0) -> Path:
    """Write a file until the disk is full, except for some bytes, and return its path."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
        file.truncate(file.tell() - free_bytes)
    return path
