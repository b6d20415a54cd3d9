"""Times of calls, measured in turns, and the name of the processor. Torch-free."""

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

WARM_UP = 2
"""Calls before the first that counts: runtimes allocate memory in them."""


def times_in_turns(calls: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Return the seconds of each call in each round.

    One call of each kind follows the other, so that a machine that becomes slower makes all of them slower.
    """
    for call in calls:
        for _ in range(WARM_UP):
            call()
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, own in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            own.append(time.perf_counter() - started)
    return seconds


def cpu_name() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
