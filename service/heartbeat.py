"""Heartbeats of a process of the service, by which its parent notices that it hangs. Standard library only.

A heartbeat is a byte in a pipe. It needs no port, no thread and no lock, so that neither many connections nor a slow
database make a healthy process look like one that hangs.
"""

import asyncio
import contextlib
import os

_DESCRIPTOR = "PYRAMIDION_HEARTBEAT_FD"
_BEAT_S = 1.0


class Heartbeat:
    """The sending end; without a parent that listens, it does nothing."""

    def __init__(self) -> None:
        # Removed, since processes that this one starts must not send heartbeats in its place.
        descriptor = os.environ.pop(_DESCRIPTOR, None)
        self._descriptor = None if descriptor is None else int(descriptor)
        if self._descriptor is not None:
            os.set_inheritable(self._descriptor, False)

    def beat(self) -> None:
        """Send a heartbeat; never blocks."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # the pipe is full while the parent is stopped
                os.write(self._descriptor, b".")

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send a heartbeat every second for as long as the event loop runs and does not hang."""
        self.beat()
        loop.call_later(_BEAT_S, self.follow, loop)


class HeartbeatPipe:
    """The receiving end, with the descriptor and the variable that the sender inherits."""

    def __init__(self) -> None:
        self._reader, self.descriptor = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self.descriptor, False)
        self.variable = {_DESCRIPTOR: str(self.descriptor)}

    def has_arrived(self) -> bool:
        """Return True if a heartbeat has arrived since the last call."""
        try:
            return bool(os.read(self._reader, 1 << 16))
        except BlockingIOError:
            return False
