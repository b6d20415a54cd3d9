"""Stops on request: a signal is remembered, and takes effect on all ranks at the same place. Torch-free."""

import os
import signal
import sys
from types import FrameType

from pipelines.base.errors import Stopped
from pipelines.base.ranks import any_rank, is_distributed, is_rank_zero
from pipelines.base.signals import release_stop_signals
from pipelines.training.launcher import announce_stop, stop_is_announced

NOTICE = "\nstopping as soon as this can be resumed; press Ctrl-C again to end at once\n"


class StopRequest:
    """Remembers that SIGTERM or SIGINT arrived. A second SIGINT ends the process at once.

    Attributes:
        is_set: whether a signal has arrived.
        activity: what this process does, if it can be ended anywhere: a signal then raises Stopped where the process
            is. None if the process must reach a place that calls `check` or `is_agreed`.
    """

    def __init__(self, activity: str | None = None) -> None:
        self.is_set = False
        self.activity = activity

    def install(self) -> None:
        """Install the handlers of both signals, and release signals that the parent of this process held back."""
        signal.signal(signal.SIGTERM, self._remember)
        signal.signal(signal.SIGINT, self._remember)
        # The other ranks are released when rank 0 supervises them, and then stop together.
        if is_rank_zero():
            release_stop_signals()

    def wait_for_checks(self) -> None:
        """From now on, a signal takes effect in `check` and `is_agreed` only; raises Stopped if one has arrived."""
        self.check(self.activity or "before training")
        self.activity = None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_set = True
        if self.activity is not None:
            raise Stopped(f"stopped {self.activity}")
        if number == signal.SIGINT and is_rank_zero():
            # Not print: the signal may have interrupted one.
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, NOTICE.encode())

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
        return any_rank(self.is_requested()) if is_distributed() else self.is_set and is_rank_zero()

    def check(self, where: str) -> None:
        """Raise Stopped if a stop was requested of any rank; all ranks must call this."""
        if self.is_agreed():
            raise Stopped(f"stopped {where}")
