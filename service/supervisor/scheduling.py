"""The choice of the jobs that start next: a pure function of rows of the database.

Jobs are considered by priority, then by age. A job that does not fit reserves the resources that it lacks, so that
smaller jobs after it cannot starve it:

- If it lacks GPUs or another resource besides cores, the free part of that resource is reserved. Cores are not, so jobs
  that need only cores continue to start.
- If it lacks only cores, all free resources are reserved, and no other job starts.

A job that requests more than the total capacity waits without delaying others: a later service may have more.
"""

from collections.abc import Iterable

from service.resources import CPUS, ResourceCounts, shortages, total
from service.store.records import Job


def next_starts(queued: Iterable[Job], active: Iterable[Job], capacity: ResourceCounts, now: float) -> list[Job]:
    """Return the jobs that start now, in this order; together with the active jobs they fit the capacity.

    Args:
        queued: waiting jobs in any order; jobs with a `not_before` later than `now` are skipped.
        active: jobs whose resources are in use.
        capacity: the resources that jobs may use in total.
    """
    used = total(job.resources for job in active)
    # Jobs of an earlier service with more resources may hold more than there is now.
    free = {name: max(0, count - used.get(name, 0)) for name, count in capacity.items()}
    starts = []
    for job in sorted(queued, key=lambda job: (-job.priority, job.number)):
        if job.not_before > now or shortages(job.resources, capacity):
            continue
        lacking = [name for name in shortages(job.resources, free) if name != CPUS]
        if lacking:
            free |= dict.fromkeys(lacking, 0)
        elif job.resources[CPUS] > free[CPUS]:
            # Every job after this one needs a core.
            break
        else:
            starts.append(job)
            free = {name: count - job.resources.get(name, 0) for name, count in free.items()}
    return starts
