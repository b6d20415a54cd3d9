"""Signals: their names, and the handling of those that ask a process to stop while processes are started."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


def signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGKILL; real-time signals have none, and are named by their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class CountedSignals:
    """Counts the stop signals that arrive once it is installed; they have no other effect then.

    Attributes:
        number: all of them.
        num_interrupts: those of Ctrl-C.
    """

    def __init__(self) -> None:
        self.number = self.num_interrupts = 0

    def install(self) -> None:
        """Handle the signals, also those that the parent of this process held back."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._count)
        release_stop_signals()

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.number += 1
        self.num_interrupts += number == signal.SIGINT


@contextmanager
def held_stop_signals() -> Iterator[None]:
    """Hold the stop signals of this thread back; those that arrive inside take effect afterwards.

    A process that is started inside inherits this: signals to the whole process group, as `timeout`, systemd, Slurm and
    Ctrl-C send them, have no effect in it until it releases them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_stop_signals() -> None:
    """Let stop signals take effect in this thread, if the parent of this process held them back when it started it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
