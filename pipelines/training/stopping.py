"""A stop on request: signals are remembered, and take effect on every rank at the same place."""

import signal
from types import FrameType

from pipelines.errors import Stopped
from pipelines.ranks import is_distributed, local_rank
from pipelines.training.launcher import ask_ranks_to_stop, ranks_are_asked_to_stop
from pipelines.training.strategy import any_rank


class StopRequest:
    """Remembers that SIGTERM or SIGINT arrived. A second SIGINT ends the process at once."""

    def __init__(self) -> None:
        self.is_set = False

    def install(self) -> None:
        """Take both signals."""
        signal.signal(signal.SIGTERM, self._remember)
        signal.signal(signal.SIGINT, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_set = True

    def is_heard(self) -> bool:
        """Whether a stop was asked for, of this rank or of one that has heard of it; no collective. Ranks that hear it
        need not be at the same place: they end what they do, and meet in `is_agreed`."""
        if self.is_set:
            ask_ranks_to_stop()
        return self.is_set or ranks_are_asked_to_stop()

    def is_agreed(self) -> bool:
        """Whether a stop was asked for, of any rank, the same on all (all must call this).

        A rank that has not met rank 0 yet goes on, and is stopped with the others.
        """
        return any_rank(self.is_heard()) if is_distributed() else self.is_set and local_rank() == 0

    def check(self, where: str) -> None:
        """Raise Stopped where a stop is agreed on; all ranks must call this."""
        if self.is_agreed():
            raise Stopped(f"stopped {where}; run the same command again to go on")
