"""Times of calls, and the processor time that they took in this process and in servers."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import psutil


@dataclass(frozen=True)
class Times:
    """Times of calls, sorted, and the processor time of one call; in milliseconds.

    Attributes:
        clients: number of clients that made these calls at once, each one after the other.
    """

    ms: Sequence[float]
    processor_ms: float | None = None
    clients: int = 1

    @property
    def rate(self) -> float:
        """Calls per second of all clients."""
        return 1000 * self.clients * len(self.ms) / sum(self.ms)

    @property
    def median(self) -> float:
        return statistics.median(self.ms)

    @property
    def p99(self) -> float:
        return self.ms[min(len(self.ms) - 1, int(0.99 * len(self.ms)))]


def measured(call: Callable[[], object], times: int, servers: Sequence[psutil.Process]) -> Times:
    """Call a function several times; the processor time is that of this process and of servers with their children."""
    before_s = time.process_time() + processor_s(servers)
    latencies_s = repeat(call, times)
    taken_s = time.process_time() + processor_s(servers) - before_s
    return Times(sorted(1000 * one for one in latencies_s), 1000 * taken_s / times)


def repeat(call: Callable[[], object], times: int) -> list[float]:
    """Return the seconds of each call."""
    marks = [time.perf_counter()]
    for _ in range(times):
        call()
        marks.append(time.perf_counter())
    return [after - before for before, after in pairwise(marks)]


def processor_s(servers: Sequence[psutil.Process]) -> float:
    """Return the processor time of processes and of their children, also of those that have ended."""
    own = sum(sum(one.cpu_times()[:4]) for one in servers)
    return own + sum(sum(one.cpu_times()[:2]) for server in servers for one in server.children(recursive=True))
