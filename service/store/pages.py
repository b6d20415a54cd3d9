"""Lists of jobs, newest first, read from indexes so that their speed does not depend on the number of jobs."""

from collections.abc import Collection
from itertools import product
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select, union_all

from service.states import JobStatus
from service.store.records import Job
from service.store.rows import JOB_COLUMNS, job_of, owned_by
from service.store.tables import jobs

_NUMBER = jobs.c.number + 0
"""The column for max and min: with the bare column, SQLite scans the table with its long rows instead of the index."""


def newest_jobs(
    connection: Connection,
    *,
    statuses: Collection[JobStatus],
    kinds: Collection[str],
    name: str | None,
    created_after: float | None,
    created_before: float | None,
    before_number: int | None,
    limit: int,
    tenant: str | None = None,
) -> list[Job]:
    """Return at most `limit` jobs that match, see `JobStore.page`.

    With 100,000 jobs it takes a few milliseconds, and 2 to 10 ms more for each 50,000 jobs between the two times.
    """
    conditions: list[ColumnElement[bool]] = []
    if created_after is not None:
        conditions.append(jobs.c.created_at > created_after)
    if created_before is not None:
        conditions.append(jobs.c.created_at < created_before)
    if conditions:
        # Numbers bound the scan by time: times grow with numbers unless the clock was set back. PostgreSQL itself does
        # not know that, and would read all rows after a time to find a page before it.
        bounds = select(func.min(_NUMBER), func.max(_NUMBER)).where(*conditions)
        first, last = connection.execute(bounds).one()
        if first is None:
            return []
        conditions.append(jobs.c.number >= first)
        # SQLite uses one upper bound only, and would filter by the other one.
        before_number = last + 1 if before_number is None else min(last + 1, before_number)
    conditions += owned_by(tenant)
    if before_number is not None:
        conditions.append(jobs.c.number < before_number)
    if name is not None:
        conditions.append(jobs.c.name == name)
    if statuses or kinds or name is not None:
        any_kind: list[str | None] = [None]
        scans = product(sorted(set(statuses or JobStatus)), sorted(set(kinds)) or any_kind)
        query = _merged(conditions, list(scans), limit)
    else:
        query = _newest(select(*JOB_COLUMNS).where(*conditions), limit)
    return [job_of(row) for row in connection.execute(query)]


def _merged(
    conditions: list[ColumnElement[bool]], scans: list[tuple[JobStatus, str | None]], limit: int
) -> Select[Any]:
    """Scan an index, ordered by (name or kind,) status and number, for each status and kind, and keep the newest jobs
    of all."""
    branches = [
        _newest(select(jobs.c.number).where(*conditions, *_of(status, kind)), limit).subquery()
        for status, kind in scans
    ]
    numbers = union_all(*(select(branch.c.number) for branch in branches)).subquery()
    chosen = select(numbers.c.number).order_by(numbers.c.number.desc()).limit(limit)
    return _newest(select(*JOB_COLUMNS).where(jobs.c.number.in_(chosen)), limit)


def _of(status: JobStatus, kind: str | None) -> list[ColumnElement[bool]]:
    """Return the conditions for jobs of a status and a kind; None is any kind."""
    return [jobs.c.status == status, *([] if kind is None else [jobs.c.kind == kind])]


def _newest(query: Select[Any], limit: int) -> Select[Any]:
    return query.order_by(jobs.c.number.desc()).limit(limit)
