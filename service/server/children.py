"""Processes of the service, which are restarted when they exit and killed when they hang."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pipelines.base.errors import ExitCode, PyramidionError
from pipelines.base.signals import signal_name
from service.signals import Signals

QUICK_END_S = 10.0
"""A process that exits sooner than this after its start is restarted after increasing pauses."""
MAX_QUICK_ENDS = 5
FIRST_DELAY_S = 0.25
MAX_DELAY_S = 5.0
STOP_S = 8.0
"""Time that the processes have to exit before they are killed."""
LOOK_S = 1.0
"""Time between two looks for signs of life."""
START_S = 600.0
"""Time that a process has to start: it may migrate a large database."""


class ServeError(PyramidionError):
    """The service cannot be started, or one of its processes exits repeatedly."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class SignsOfLife(Protocol):
    """A source of signs that a process does not hang."""

    def has_arrived(self) -> bool:
        """Return True if a sign has arrived since the last call; never blocks."""
        ...


class HealthProbe:
    """Signs of life by health checks, in a thread of their own.

    Args:
        find_problem: returns None if the process is healthy, otherwise the reason; it has a deadline of its own.
    """

    def __init__(self, find_problem: Callable[[], str | None]) -> None:
        self._find_problem = find_problem
        self._is_healthy = threading.Event()
        threading.Thread(target=self._repeat, daemon=True).start()

    def has_arrived(self) -> bool:
        """Return True if a health check has succeeded since the last call."""
        has_arrived = self._is_healthy.is_set()
        self._is_healthy.clear()
        return has_arrived

    def _repeat(self) -> None:
        while True:
            if self._find_problem() is None:
                self._is_healthy.set()
            time.sleep(LOOK_S)


class Child:
    """A process of the service.

    Args:
        name: for messages.
        command: its command line.
        environment: its environment.
        fds: descriptors that it inherits.
        signs: its signs of life; without them, it is never considered to hang.
        hang_timeout_s: time without a sign of life after which it is killed.
        start_timeout_s: the same for a process that has shown no sign of life since its start.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        fds: Sequence[int] = (),
        *,
        signs: SignsOfLife | None = None,
        hang_timeout_s: float = START_S,
        start_timeout_s: float = START_S,
    ) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._command, self._environment, self._fds = command, environment, fds
        self._signs, self._hang_timeout_s, self._start_timeout_s = signs, hang_timeout_s, start_timeout_s
        self._started = 0.0
        self._due = 0.0
        self._quick_ends = 0
        self._looked = 0.0
        self._silent_s = 0.0
        self._limit_s = start_timeout_s

    def keep_running(self) -> None:
        """Start the process if it is due, record its exit, and kill it if it hangs.

        Raises:
            ServeError: it exits repeatedly, or its settings are invalid.
        """
        if self.process is not None and (code := self.process.poll()) is not None:
            self.process = None
            self._record_exit(code)
        if self.process is None and self.due_in_s() <= 0:
            self._start()
        if self.process is not None and self._signs is not None:
            self._look(self._signs, self.process)

    def due_in_s(self) -> float:
        """Return the seconds until `keep_running` must be called, unless a signal arrives first."""
        if self.process is None:
            return max(0.0, self._due - time.monotonic())
        return 3600.0 if self._signs is None else LOOK_S

    def _start(self) -> None:
        if self._signs is not None:
            self._signs.has_arrived()  # from an earlier process
        # In its own group, because Ctrl-C must reach only this process, which stops the others in order.
        self._started = self._looked = time.monotonic()
        self._silent_s, self._limit_s = 0.0, self._start_timeout_s
        try:
            self.process = subprocess.Popen(
                self._command, env=self._environment, pass_fds=self._fds, stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno(), process_group=0,
            )  # fmt: skip
        except OSError as error:  # for example, the machine has no memory for another process at the moment
            self._restart_later(f"the {self.name} process could not be started: {error}", 1)

    def _look(self, signs: SignsOfLife, process: "subprocess.Popen[bytes]") -> None:
        now = time.monotonic()
        # While this process itself was stopped (Ctrl-Z, a frozen container), the silence of the other says nothing.
        self._silent_s += min(now - self._looked, 2 * LOOK_S)
        self._looked = now
        if signs.has_arrived():
            self._silent_s, self._limit_s = 0.0, self._hang_timeout_s
        elif self._silent_s > self._limit_s:
            report(f"the {self.name} process hangs: no sign of life for {self._silent_s:.0f} s; killing it")
            self._silent_s = 0.0
            process.kill()

    def _record_exit(self, code: int) -> None:
        lived_s = time.monotonic() - self._started
        how = f"was terminated by {signal_name(-code)}" if code < 0 else f"exited with code {code}"
        end = f"the {self.name} process {how} after {lived_s:.1f} s"
        if code == ExitCode.INVALID:
            raise ServeError(f"{end}; see its message above", code)
        self._restart_later(end, code, lived_s)

    def _restart_later(self, end: str, code: int, lived_s: float = 0.0) -> None:
        # A killed process has not failed, so it is restarted no matter how often that happens.
        was_killed = code == -signal.SIGKILL
        self._quick_ends = self._quick_ends + (not was_killed) if lived_s < QUICK_END_S else 0
        if self._quick_ends >= MAX_QUICK_ENDS:
            raise ServeError(
                f"{end}, {self._quick_ends} times in a row; see its messages above", code if code > 0 else 1
            )
        delay_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** (self._quick_ends - 1)) if self._quick_ends else 0.0
        self._due = time.monotonic() + delay_s
        report(f"{end}; restarting it{f' in {delay_s:.1f} s' if delay_s else ''}")


def stop(children: Sequence[Child], signals: Signals) -> None:
    """Stop all children: terminate them, and kill them after `STOP_S` or at a second request to stop."""
    alive = [child.process for child in children if child.process is not None]
    for process in alive:
        process.terminate()
    deadline, stops = time.monotonic() + STOP_S, signals.stops
    while any(process.poll() is None for process in alive):
        if time.monotonic() > deadline or signals.stops > stops:
            for process in alive:
                process.kill()
        signals.wait(0.2)


def report(text: str) -> None:
    """Print a line about an event of the service to stderr."""
    print(f"pyramidion serve: {text}", file=sys.stderr, flush=True)
