"""Why a queued job does not run yet, in one sentence."""

import time

from service.api.supervision import supervisor_pid
from service.api.views import moment
from service.executors.base import Capacity
from service.settings import Settings
from service.states import JobStatus
from service.store.jobs import JobStore
from service.store.records import Job

SHOWN_HOLDERS = 3


def waits_for(job: Job, store: JobStore, settings: Settings, capacity: Capacity) -> str | None:
    """Return why a queued job does not run yet; None for a job that is not queued."""
    if job.status is not JobStatus.QUEUED:
        return None
    if supervisor_pid(settings.root) is None:
        return "no supervisor runs; start `pyramidion serve` again"
    if job.not_before > time.time():
        until = moment(job.not_before).strftime("%H:%M:%S")
        return f"attempt {job.attempt} failed, the next one starts not before {until} UTC"
    reasons = []
    if ahead := store.jobs_ahead(job):
        reasons.append("1 job is ahead" if ahead == 1 else f"{ahead} jobs are ahead")
    holders = store.holders()
    for kind, needed, total in (("cpus", job.cpus, capacity.cpus), ("gpus", job.gpus, len(capacity.gpu_ids))):
        held = {holder.id: getattr(holder, kind) for holder in holders}
        free = max(0, total - sum(held.values()))
        if needed > free:
            reasons.append(f"needs {needed} of {total} {kind}, {free} are free{_told(held)}")
    return "; ".join(reasons) or "it starts next"


def _told(held: dict[str, int]) -> str:
    """Return who holds the most."""
    largest = sorted(((number, job_id) for job_id, number in held.items() if number), reverse=True)
    shown = [f"; job {job_id} holds {number}" for number, job_id in largest[:SHOWN_HOLDERS]]
    more = [f"; {len(largest) - SHOWN_HOLDERS} more hold the rest"] if len(largest) > SHOWN_HOLDERS else []
    return "".join([*shown, *more])
