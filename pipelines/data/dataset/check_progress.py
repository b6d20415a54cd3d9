"""Progress of a check that takes longer than a moment, on standard error. Torch-free."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from pipelines.base.ranks import is_rank_zero
from pipelines.base.terminal import redraws_lines

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET_S = 2.0
"""Checks that take less time show nothing."""

LINE_EVERY_S = 5.0


class CheckProgress:
    """A progress bar on a terminal, else a line every few seconds; nothing on ranks other than 0.

    Args:
        what: the images or files that are checked, as a plural noun.
        total: their number.
        stream: where progress is shown.
    """

    def __init__(self, what: str, total: int, stream: TextIO | None = None) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self._stream = sys.stderr if stream is None else stream
        self._started = time.monotonic()
        self._next_s = QUIET_S
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def advance(self, count: int) -> None:
        """Count finished items, and show the progress if it is due."""
        self.done += count
        if self._bar is not None:
            self._bar[0].update(self._bar[1], completed=self.done)
            return
        elapsed_s = time.monotonic() - self._started
        if elapsed_s < self._next_s or self.done >= self.total or not is_rank_zero():
            return
        if redraws_lines(self._stream):
            self._start_bar()
            return
        self._next_s = elapsed_s + LINE_EVERY_S
        left_s = elapsed_s / self.done * (self.total - self.done)
        share = f"{self.done:,} of {self.total:,} {self.what} ({self.done / self.total:.0%})"
        print(f"checked {share}, about {left_s:.0f} s left", file=self._stream, flush=True)

    def _start_bar(self) -> None:
        # rich is for terminals: the API process imports this module, but never prints.
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from pipelines.base.console import SafeConsole

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=SafeConsole(file=self._stream), transient=True)
        self._bar = bar, bar.add_task(f"checking {self.what}", total=self.total, completed=self.done)
        bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()
