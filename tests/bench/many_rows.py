"""A database with many jobs for benchmarks: the older half of them has ended, and the newer half waits."""

from typing import Any

from sqlalchemy import Engine, insert, literal, select

from service.states import JobStatus
from service.store.database import writing
from service.store.tables import attempts, events, jobs

KINDS = ("fit",) * 8 + ("batch_prediction", "export")
TENANTS = ("blue", "red", "green")
NUM_NAMES = 200
FIRST_TIME = 1_700_000_000
"""Creation of the first job; each further one is created a second later."""
UNUSUAL_CPUS = 64
"""Cores of each waiting job: a supervisor with fewer cores must skip them."""
EVENTS_OF_A_JOB = 5
CHUNK = 5_000


def fill(engine: Engine, number: int) -> None:
    """Add jobs with documents of about 1.5 KB, with an attempt and five events of each job that has ended."""
    for first in range(0, number, CHUNK):
        rows = [row_of(index, number) for index in range(first, min(first + CHUNK, number))]
        with writing(engine) as connection:
            connection.execute(insert(jobs), rows)
    with writing(engine) as connection:
        has_ended = jobs.c.status != JobStatus.QUEUED
        one, no_gpus = literal(1), literal([], attempts.c.gpu_ids.type)
        found = select(jobs.c.id, one, literal("bench"), no_gpus, jobs.c.created_at).where(has_ended)
        columns = ["job_id", "number", "lease_owner", "gpu_ids", "started_at"]
        connection.execute(insert(attempts).from_select(columns, found))
        columns = ["job_id", "attempt", "time", "kind", "epoch", "step", "data"]
        for step in range(EVENTS_OF_A_JOB):
            data = literal({"losses": {"a": 0.5}}, events.c.data.type)
            values = [one, jobs.c.created_at, literal("metric"), literal(0), literal(step), data]
            connection.execute(insert(events).from_select(columns, select(jobs.c.id, *values).where(has_ended)))
    # PostgreSQL does this by itself after a while, and SQLite needs no statistics.
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def row_of(index: int, number: int) -> dict[str, Any]:
    """Return one of `number` jobs, which differ in name, kind, status, priority and owner."""
    has_ended = 2 * index < number
    losses = {f"train/task/{term}": 0.5 for term in range(6)}
    return {
        "id": f"{index:012x}",
        "name": f"name{index % NUM_NAMES}",
        "kind": KINDS[index % len(KINDS)],
        "status": status_of(index) if has_ended else JobStatus.QUEUED,
        "priority": index % 7 - 3,
        "tenant": TENANTS[index // 5 % len(TENANTS)],
        "cpus": UNUSUAL_CPUS,
        "gpus": 0,
        "created_at": float(FIRST_TIME + index),
        "not_before": float(FIRST_TIME + index),
        "attempt": int(has_ended),
        "failures": 0,
        "events_offset": 0,
        "progress": {"epoch": 3, "step": 99, "losses": losses} if has_ended else None,
        "config": {"name": "many", "model": {"tasks": {f"task {task}": {"head": "fcos"} for task in range(50)}}},
    }


def status_of(index: int) -> JobStatus:
    """Return the status of a job that has ended: one in 100 has failed, and one in 100 was cancelled."""
    return {0: JobStatus.FAILED, 50: JobStatus.CANCELLED}.get(index % 100, JobStatus.SUCCEEDED)
