"""A network of its own for a test: a namespace in which only the loopback interface exists.

Servers that listen at all addresses, such as Ray's, cannot be reached from outside of it.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class NetworkNamespace:
    """A namespace, which exists until it is closed and no process is in it any more."""

    def __init__(self) -> None:
        outside = _current()
        if _libc.unshare(CLONE_NEWNET) != 0:
            os.close(outside)
            pytest.skip("needs root, to create a network namespace")
        self._inside = _current()
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        finally:
            self._enter(outside)
            os.close(outside)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread, and the processes that it starts, use the namespace; it may be in it already."""
        before = _current()
        self._enter(self._inside)
        try:
            yield
        finally:
            self._enter(before)
            os.close(before)

    def close(self) -> None:
        os.close(self._inside)

    def _enter(self, descriptor: int) -> None:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns failed")


def _current() -> int:
    """Open the network namespace of this thread."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)
