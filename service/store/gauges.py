"""Figures about all jobs for monitoring, read in one transaction. Torch-free."""

import time
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from service.states import JobStatus
from service.store.database import reading
from service.store.supervisor_lease import find_lease
from service.store.tables import jobs


@dataclass(frozen=True)
class JobGauges:
    """Numbers about all jobs. Times are seconds since 1970.

    Attributes:
        counts: number of jobs by kind of work and status.
        failures: number of failed jobs by failure kind.
        startable_since: the earliest start of the oldest queued job whose earliest start has passed; None without one.
        unsettled: number of jobs that have ended, but whose final status MLflow does not have yet.
        unsettled_since: end of the first of them.
        heartbeat_at: the last heartbeat of the supervisor, by its clock; None if none has ever run.
    """

    counts: dict[tuple[str, str], int]
    failures: dict[str, int]
    startable_since: float | None
    unsettled: int
    unsettled_since: float | None
    heartbeat_at: float | None


def read_gauges(engine: Engine) -> JobGauges:
    """Return the numbers as they are now; raises StoreUnavailable."""
    failed = select(jobs.c.failure_kind, func.count()).where(jobs.c.status == JobStatus.FAILED)
    startable = select(jobs.c.not_before).where(jobs.c.status == JobStatus.QUEUED, jobs.c.not_before <= time.time())
    unsettled = select(func.count(), func.min(jobs.c.finished_at)).where(
        jobs.c.mlflow_run_id.is_not(None), jobs.c.mlflow_status.is_(None), jobs.c.finished_at.is_not(None)
    )
    counted = select(jobs.c.kind, jobs.c.status, func.count()).group_by(jobs.c.kind, jobs.c.status)
    with reading(engine) as connection:
        counts = connection.execute(counted).all()
        failures = connection.execute(failed.group_by(jobs.c.failure_kind)).all()
        startable_since = connection.execute(startable.order_by(jobs.c.number).limit(1)).scalar_one_or_none()
        number, unsettled_since = connection.execute(unsettled).one()
        lease = find_lease(connection)
    return JobGauges(
        {(kind, status): count for kind, status, count in counts},
        {kind or "unknown": count for kind, count in failures},
        startable_since,
        number,
        unsettled_since,
        None if lease is None else lease.beat_at,
    )
