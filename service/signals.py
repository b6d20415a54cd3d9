"""Signals as something to wait for. Standard library only."""

import contextlib
import selectors
import signal
import socket
from types import FrameType
from typing import Any


class Signals:
    """Wishes to stop, and ends of children, as something to wait for; to be used in the main thread."""

    STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        self.stops = 0

    def __enter__(self) -> "Signals":
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._reader, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before: dict[signal.Signals, Any] = {
            number: signal.signal(number, self._note) for number in (*self.STOPPING, signal.SIGCHLD)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._reader.close()
        self._writer.close()

    def _note(self, number: int, _: FrameType | None) -> None:
        self.stops += number in self.STOPPING

    def wait(self, timeout_s: float) -> None:
        """Return when a signal has come since the last call, at the latest after `timeout_s`."""
        self._selector.select(timeout_s)
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass
