"""The choice of the jobs that start next, from pages of the queue.

Jobs are considered by priority, then by age. A job that does not fit reserves the resources that it lacks, so that
smaller jobs after it cannot starve it:

- If it lacks GPUs or another resource besides cores, the free part of that resource is reserved. Cores are not, so jobs
  that need only cores continue to start.
- If it lacks only cores, all free resources are reserved, and no other job starts.

A job that requests more than the total capacity, or more nodes than there are, waits without delaying others: a later
service may have more. However many jobs wait in front, the queue is read until the free resources are in use or
reserved.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from service.resources import CPUS, ResourceCounts, remaining, shortages, total
from service.store.records import Job

QueuePage = Callable[[Job | None, ResourceCounts], Sequence[Job]]
"""Returns the next jobs of the queue after one, in order, without those that request more than some resources."""


def next_starts(
    page: QueuePage, active: Iterable[Job], capacity: ResourceCounts, may_start: Callable[[Job], bool]
) -> list[Job]:
    """Return the jobs that start now, in this order; together with the active jobs they fit the capacity.

    Args:
        page: reads the queue.
        active: jobs whose resources are in use.
        capacity: the resources that jobs may use in total.
        may_start: returns False for a job that pauses before its next attempt.
    """
    # Jobs of an earlier service with more resources may hold more than there is now; then nothing is free.
    free = remaining(capacity, total(job.resources for job in active))
    within = dict(capacity)
    starts: list[Job] = []
    last: Job | None = None
    while free[CPUS] > 0 and (queued := page(last, within)):
        for job in queued:
            last = job
            if not may_start(job) or shortages(job.resources, within):
                continue
            lacking = [name for name in shortages(job.resources, free) if name != CPUS]
            if lacking:
                # No later job that requests any of it can start, so the next page omits these jobs.
                free |= dict.fromkeys(lacking, 0)
                within |= dict.fromkeys(lacking, 0)
                break
            if job.resources[CPUS] > free[CPUS]:
                # Every job after this one needs a core.
                return starts
            starts.append(job)
            free = remaining(free, job.resources)
    return starts


class Pauses:
    """The pauses of jobs before their next attempts, measured by a clock that nobody can set.

    Args:
        retry_delay_s: the first pause of a job; it doubles with each failure.
    """

    MAX_KEPT = 10_000

    def __init__(self, retry_delay_s: float) -> None:
        self._retry_delay_s = retry_delay_s
        self._ends: dict[tuple[str, int], float] = {}

    def is_over(self, job: Job) -> bool:
        """Return True if a waiting job may start; its `not_before` counts from when the job is first seen here."""
        if job.attempt == 0:
            return True
        key = (job.id, job.attempt)
        if key not in self._ends:
            if len(self._ends) >= self.MAX_KEPT:
                self._ends.clear()
            # The system's clock may have been set back: no pause is longer than the one that was recorded.
            longest_s = self._retry_delay_s * 2 ** max(0, job.failures - 1)
            self._ends[key] = time.monotonic() + min(longest_s, max(0.0, job.not_before - time.time()))
        return time.monotonic() >= self._ends[key]

    def forget(self, job: Job) -> None:
        """Forget a job that has left the queue."""
        self._ends.pop((job.id, job.attempt), None)
