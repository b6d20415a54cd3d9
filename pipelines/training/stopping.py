"""Stops on request: a signal is remembered, and takes effect on all ranks at the same place."""

import signal
from types import FrameType

from pipelines.base.errors import Stopped
from pipelines.base.ranks import is_distributed, local_rank
from pipelines.training.launcher import announce_stop, stop_is_announced
from pipelines.training.strategy import any_rank


class StopRequest:
    """Remembers that SIGTERM or SIGINT arrived. A second SIGINT ends the process at once."""

    def __init__(self) -> None:
        self.is_set = False

    def install(self) -> None:
        """Install the handlers of both signals."""
        signal.signal(signal.SIGTERM, self._remember)
        signal.signal(signal.SIGINT, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_set = True

    def is_requested(self) -> bool:
        """Return whether this rank or another one, that has called this, received a signal; not a collective.

        Ranks may notice it at different places; they finish what they are doing and meet in `is_agreed`.
        """
        if self.is_set:
            announce_stop()
        return self.is_set or stop_is_announced()

    def is_agreed(self) -> bool:
        """Return, on all ranks, whether any of them received a signal; all ranks must call this.

        A rank without a process group continues, and stops later together with the others.
        """
        return any_rank(self.is_requested()) if is_distributed() else self.is_set and local_rank() == 0

    def check(self, where: str) -> None:
        """Raise Stopped if a stop was requested of any rank; all ranks must call this."""
        if self.is_agreed():
            raise Stopped(f"stopped {where}; run the same command again to resume")
