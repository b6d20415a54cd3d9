"""The rows that retention reads and writes: ended jobs, marks of jobs that are being deleted, and their events."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Text, cast, delete, func, insert, or_, select

from service.states import ACTIVE, TERMINAL, JobStatus
from service.store.database import reading, writing
from service.store.dataset_records import SHORT_DIGITS, DatasetStatus
from service.store.rows import find_locked
from service.store.tables import dataset_uses, dataset_versions, events, job_deletions, jobs

_MAX_ROWS = 5000
"""Rows that one transaction deletes: other writers wait for it."""
_SETTLED = jobs.c.status.in_(sorted(TERMINAL)) & or_(jobs.c.mlflow_run_id.is_(None), jobs.c.mlflow_status.is_not(None))
"""Nothing writes to these jobs again, see `Job.is_settled`."""
_UNFINISHED = jobs.c.status.in_(sorted({JobStatus.QUEUED, *ACTIVE}))
_DELETABLE = events.c.kind != "status"
"""The events of changes of the status are the history of a job."""


@dataclass(frozen=True)
class EndedJob:
    """A job that has ended and to which nothing writes again."""

    id: str
    name: str
    status: JobStatus
    finished_at: float
    mlflow_run_id: str | None


@dataclass(frozen=True)
class UnusedDataset:
    """A version of a data set that no job uses, and no model of a deleted job; its age counts from `time`."""

    id: str
    name: str
    version: str
    time: float
    num_bytes: int


class RetentionStore:
    """Every method raises StoreUnavailable while the database cannot be used."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ended(self) -> list[EndedJob]:
        """Return the ended jobs that are not being deleted, those that ended last first."""
        ended_at = func.coalesce(jobs.c.finished_at, jobs.c.created_at).label("finished_at")
        columns = (jobs.c.id, jobs.c.name, jobs.c.status, ended_at, jobs.c.mlflow_run_id)
        is_marked = select(job_deletions.c.job_id).where(job_deletions.c.job_id == jobs.c.id).exists()
        query = select(*columns).where(_SETTLED, ~is_marked).order_by(ended_at.desc(), jobs.c.number.desc())
        with reading(self._engine) as connection:
            return [EndedJob(row[0], row[1], JobStatus(row[2]), *row[3:]) for row in connection.execute(query)]

    def waiting_documents(self) -> tuple[list[object], int]:
        """Return the documents of all jobs that are queued or active, and the number of the newest job.

        The documents may name run folders of other jobs.
        """
        with reading(self._engine) as connection:
            newest = connection.execute(select(func.max(jobs.c.number))).scalar_one() or 0
            return list(connection.execute(select(jobs.c.config).where(_UNFINISHED)).scalars()), newest

    def is_named(self, job_id: str, after_number: int) -> bool:
        """Return whether a job that is queued or active names a job, among those submitted after one with a number."""
        with reading(self._engine) as connection:
            return _is_named(connection, job_id, after_number)

    def unused_datasets(self) -> list[UnusedDataset]:
        """Return the versions of data sets that were checked and that nothing uses, newest first."""
        row = dataset_versions.c
        is_used = select(dataset_uses.c.job_id).where(dataset_uses.c.dataset_id == row.id).exists()
        checked = row.status.in_([DatasetStatus.READY, DatasetStatus.INVALID])
        columns = (row.id, row.name, row.sha256, row.created_at, row.archive_bytes + row.files_bytes)
        query = select(*columns).where(checked, ~is_used).order_by(row.created_at.desc(), row.number.desc())
        with reading(self._engine) as connection:
            return [
                UnusedDataset(*found[:2], found[2][:SHORT_DIGITS], *found[3:]) for found in connection.execute(query)
            ]

    def mark(self, job_id: str, after_number: int) -> bool:
        """Record that a job is being deleted, so that its deletion is finished after a crash.

        Return False if it does not exist any more, or has not ended, or if a job names it that waits or runs and was
        submitted after the job with the number `after_number`.
        """
        with writing(self._engine) as connection:
            if find_locked(connection, jobs.c.id == job_id, _SETTLED) is None:
                return False
            known = select(job_deletions.c.job_id).where(job_deletions.c.job_id == job_id)
            if connection.execute(known).one_or_none() is not None:
                return True
            if _is_named(connection, job_id, after_number):
                return False
            connection.execute(insert(job_deletions).values(job_id=job_id, started_at=time.time()))
            return True

    def marked(self) -> list[str]:
        """Return the jobs whose deletion has not been finished."""
        with reading(self._engine) as connection:
            return list(connection.execute(select(job_deletions.c.job_id)).scalars())

    def count_events(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the number of events of each job, except for changes of its status."""
        counts: dict[str, int] = {}
        remaining = list(job_ids)
        while remaining:
            some, remaining = remaining[:500], remaining[500:]
            query = select(events.c.job_id, func.count()).where(events.c.job_id.in_(some), _DELETABLE)
            with reading(self._engine) as connection:
                counts |= {row[0]: row[1] for row in connection.execute(query.group_by(events.c.job_id))}
        return counts

    def delete_events(self, job_id: str) -> None:
        """Delete the events of an ended job, except for changes of its status."""
        some = select(events.c.seq).where(events.c.job_id == job_id, _DELETABLE).limit(_MAX_ROWS)
        while True:
            with writing(self._engine) as connection:
                if find_locked(connection, jobs.c.id == job_id, _SETTLED) is None:
                    return
                if connection.execute(delete(events).where(events.c.seq.in_(some))).rowcount < _MAX_ROWS:
                    return


def _is_named(connection: Connection, job_id: str, after_number: int) -> bool:
    newer = (_UNFINISHED, jobs.c.number > after_number, cast(jobs.c.config, Text).contains(job_id, autoescape=True))
    return connection.execute(select(jobs.c.id).where(*newer).limit(1)).one_or_none() is not None
