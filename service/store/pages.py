"""Lists of jobs, newest first, found by walks over indexes however many jobs there are."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select, union_all

from service.states import JobStatus
from service.store.records import Job
from service.store.rows import JOB_COLUMNS, job_of
from service.store.tables import jobs

_NUMBER = jobs.c.number + 0
"""For max and min: of the bare column SQLite takes them by walking over the table, row by long row, not the index."""


def newest_jobs(
    connection: Connection,
    *,
    statuses: Collection[JobStatus],
    name: str | None,
    created_after: float | None,
    created_before: float | None,
    before_number: int | None,
    limit: int,
) -> list[Job]:
    """Return at most `limit` jobs that fit, see `JobStore.page`.

    With 100,000 jobs: 1-2 ms, and up to 5 ms more for each of the two times.
    """
    fits: list[ColumnElement[bool]] = []
    # Times grow with numbers, unless a clock was set back: they tell where a walk begins and ends.
    if created_after is not None:
        later = jobs.c.created_at > created_after
        first = connection.execute(select(func.min(_NUMBER)).where(later)).scalar_one()
        if first is None:
            return []
        fits += [later, jobs.c.number >= first]
    if created_before is not None:
        earlier = jobs.c.created_at < created_before
        last = connection.execute(select(func.max(_NUMBER)).where(earlier)).scalar_one()
        if last is None:
            return []
        fits += [earlier, jobs.c.number <= last]
    if before_number is not None:
        fits.append(jobs.c.number < before_number)
    if name is not None:
        fits.append(jobs.c.name == name)
    if statuses or name is not None:
        query = _merged(fits, sorted(set(statuses or JobStatus)), limit)
    else:
        query = _newest(select(*JOB_COLUMNS).where(*fits), limit)
    return [job_of(row) for row in connection.execute(query)]


def _merged(fits: list[ColumnElement[bool]], statuses: list[JobStatus], limit: int) -> Select[Any]:
    """Walk over an index for each status, its order being (name,) status, number, and keep the newest of all."""
    branches = [
        _newest(select(jobs.c.number).where(*fits, jobs.c.status == status), limit).subquery() for status in statuses
    ]
    numbers = union_all(*(select(branch.c.number) for branch in branches)).subquery()
    chosen = select(numbers.c.number).order_by(numbers.c.number.desc()).limit(limit)
    return _newest(select(*JOB_COLUMNS).where(jobs.c.number.in_(chosen)), limit)


def _newest(query: Select[Any], limit: int) -> Select[Any]:
    return query.order_by(jobs.c.number.desc()).limit(limit)
