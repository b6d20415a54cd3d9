"""Temporary folders that do not outlive their process for long, even if it is killed. Torch-free."""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX, _NEW = "pyramidion-of-process-", "pyramidion-new-"
_LOCK = "held"
_own: set[Path] = set()


class ProcessFolder:
    """A new folder for temporary files, which belongs to this process.

    The process holds a lock on a file in it, which the kernel releases when the process ends, also by a kill. Then
    `remove_abandoned_folders` of any other process of the same user removes the folder.

    Attributes:
        path: the folder; only this user may read it.
    """

    def __init__(self) -> None:
        new = Path(tempfile.mkdtemp(prefix=_NEW))
        self._lock = (new / _LOCK).open("w")
        with suppress(OSError):  # no lock can be taken there, neither by others
            # Not flock: data workers are forked, and one that outlives a killed process would keep the lock.
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = new.with_name(f"{_PREFIX}{new.name.removeprefix(_NEW)}")
        _own.add(self.path)
        # Nobody finds the folder before it is locked.
        new.rename(self.path)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()
        _own.discard(self.path)


def is_abandoned(path: Path) -> bool:
    """Return whether the process that a `ProcessFolder` belongs to, which is not this one, has ended."""
    try:
        with (path / _LOCK).open("r+") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return True
    except OSError:
        return False


def remove_abandoned_folders() -> None:
    """Remove the folders of this user's processes that have ended; others, and what cannot be removed, remain."""
    with suppress(OSError):
        for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            # Closing any file of a folder of this process would release its lock.
            if path not in _own:
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    with suppress(OSError):
        if path.is_symlink() or path.stat().st_uid != os.getuid():
            return
        with (path / _LOCK).open("r+") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
