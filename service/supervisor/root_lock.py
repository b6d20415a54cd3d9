"""The lock file of a root, which the kernel releases when its holder exits for any reason."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self


class RootLock:
    """The lock of one root; its file contains the pid of its holder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_held = False

    def __enter__(self) -> Self:
        self._file = self._path.open("a+")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def try_to_take(self) -> bool:
        """Return True if this process holds the lock, now or already."""
        if not self._is_held:
            try:
                # lockf instead of flock, whose lock children would inherit.
                fcntl.lockf(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return False
            self._is_held = True
            # On a full disk the pid is not written, but the supervisor works.
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), 0)
                os.write(self._file.fileno(), str(os.getpid()).encode())
        return True
