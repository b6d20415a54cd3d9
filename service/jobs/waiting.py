"""The reason why a queued job has not started yet, in one sentence."""

import time
from datetime import UTC, datetime

from service.jobs.supervisor_watch import SupervisorWatch
from service.principal import LOCAL_USER, Principal
from service.resources import NODES, ResourceCounts, available, remaining, shortages, total
from service.states import JobStatus
from service.store.dataset_records import DatasetStatus
from service.store.datasets import DatasetStore
from service.store.jobs import JobStore
from service.store.records import Job

SHOWN_HOLDERS = 3


def waits_for(
    job: Job,
    store: JobStore,
    datasets: DatasetStore,
    supervision: SupervisorWatch,
    capacity: ResourceCounts,
    principal: Principal = LOCAL_USER,
) -> str | None:
    """Return the reason why a queued job has not started yet; None for a job that is not queued.

    The reason names only jobs that the principal sees.
    """
    if job.status is not JobStatus.QUEUED:
        return None
    if supervision.active() is None:
        return "no supervisor is running; start `pyramidion serve` again"
    if job.not_before > time.time():
        until = datetime.fromtimestamp(job.not_before, UTC).strftime("%H:%M:%S")
        return f"attempt {job.attempt} failed; the next one starts at {until} UTC or later"
    used = datasets.of_job(job.id)
    if used is not None and used.status is DatasetStatus.CHECKING:
        return "its images are being extracted" if used.of_jobs else f"the data set {used.reference} is being checked"
    reasons = []
    if ahead := store.jobs_ahead(job):
        reasons.append("1 job is ahead" if ahead == 1 else f"{ahead} jobs are ahead")
    holders = store.holders()
    free = remaining(capacity, total(holder.resources for holder in holders))
    for name in shortages(job.resources, free):
        if name == NODES:
            reasons.append(f"needs {job.num_nodes} nodes, and this server has {available(capacity, NODES)}")
            continue
        held = {holder.id: holder.resources[name] for holder in holders if principal.sees(holder.tenant)}
        needed = f"needs {job.resources[name]} of {capacity.get(name, 0)} {name}, {free.get(name, 0)} are free"
        others = sum(holder.resources[name] for holder in holders if not principal.sees(holder.tenant))
        hidden = f"; jobs of others hold {others}" if others else ""
        reasons.append(f"{needed}{_largest_holders(held)}{hidden}")
    return "; ".join(reasons) or "it starts next"


def _largest_holders(held: dict[str, int]) -> str:
    """Return the part of the sentence about the jobs that hold the largest amounts."""
    largest = sorted(((number, job_id) for job_id, number in held.items() if number), reverse=True)
    shown = [f"; job {job_id} holds {number}" for number, job_id in largest[:SHOWN_HOLDERS]]
    more = [f"; {len(largest) - SHOWN_HOLDERS} more hold the rest"] if len(largest) > SHOWN_HOLDERS else []
    return "".join([*shown, *more])
