"""Who starts next, and on which GPUs: a function of rows of the database, and of nothing else.

Jobs come by priority, then by age. One that does not fit keeps what it lacks reserved, so that smaller ones behind it
cannot starve it:

- short of GPUs: every free GPU waits for it; cores do not, so that jobs without GPUs go on meanwhile;
- short of cores alone: every free core waits for it, and its GPUs too.

One that asks for more than there is in all waits without holding anybody up: a later service may have more.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from service.executors.base import Capacity
from service.store.records import Job


@dataclass(frozen=True)
class Start:
    """A job that fits now, and the GPUs that it gets."""

    job: Job
    gpu_ids: tuple[str, ...]


def next_starts(
    queued: Iterable[Job], active: Iterable[Job], gpu_ids_in_use: Collection[str], capacity: Capacity, now: float
) -> list[Start]:
    """Return what starts now, in this order; together with what is active it fits the capacity.

    Args:
        queued: jobs that wait, in any order; those whose `not_before` is later than `now` are not looked at.
        active: jobs whose cores are in use.
        gpu_ids_in_use: the GPUs of active jobs.
    """
    cpus = capacity.cpus - sum(job.cpus for job in active)
    gpu_ids = [gpu_id for gpu_id in capacity.gpu_ids if gpu_id not in gpu_ids_in_use]
    starts = []
    for job in sorted(queued, key=lambda job: (-job.priority, job.number)):
        if job.not_before > now or job.cpus > capacity.cpus or job.gpus > len(capacity.gpu_ids):
            continue
        if job.gpus > len(gpu_ids):
            gpu_ids = []
        elif job.cpus > cpus:
            # Whatever comes behind needs a core.
            break
        else:
            starts.append(Start(job, tuple(gpu_ids[: job.gpus])))
            cpus, gpu_ids = cpus - job.cpus, gpu_ids[job.gpus :]
    return starts
