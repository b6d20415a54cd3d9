"""Folders that one process of a test run makes for all: the others wait for it."""

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this test run use."""
    own = tmp_path_factory.getbasetemp()
    # A process of pytest-xdist has a folder below the one of the run.
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder that `make` fills; the first process of this test run that needs it calls `make`.

    Tests must not change the folder, since other processes read it. An error of `make` is raised in the process that
    called it, and the next process tries again with a new folder.
    """
    shared = shared_folder(tmp_path_factory)
    address = shared / f"{name}.folder"
    with (shared / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not address.exists():
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=shared))
            make(folder)
            address.write_text(str(folder))
    return Path(address.read_text())
