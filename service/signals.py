"""Waiting for signals. Standard library only."""

import contextlib
import selectors
import signal
import socket
from types import FrameType
from typing import Any


class Signals:
    """Waits for requests to stop and for exits of children; for use in the main thread.

    Attributes:
        stops: number of requests to stop so far.
    """

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
        """Return once a signal has arrived since the last call, or after `timeout_s`."""
        self._selector.select(timeout_s)
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass
