"""The lock of a running supervisor on a file in its root, as other processes see it."""

import fcntl
import struct
from pathlib import Path

LOCK = "supervisor.lock"
_FLOCK = "hhqqi"
"""`struct flock` of Linux: type, whence, start, length, pid."""


def supervisor_pid(root: Path) -> int | None:
    """Return the pid of the running supervisor of this root, or None.

    The lock is only queried, never taken: a supervisor that starts at this moment must not find it locked.
    """
    try:
        with (root / LOCK).open("rb") as file:
            wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, wanted))
    except OSError:
        return None
    return None if kind == fcntl.F_UNLCK else int(pid)
