"""The event log: the only place that appends events, and the owner of their order.

The store promises one total order of all events, given by `seq`:

- Numbers grow in the order of commits. Once a reader has seen number n, no event with a smaller number ever appears,
  so a reader that continues after n misses nothing.
- A number is never used twice, not even after the job with the highest number was deleted. Gaps are possible.
- The events of one call are contiguous in their order.

To keep the promise, a writer takes the lock of the log before the database assigns a number, and holds it until its
transaction ends. SQLite has one writer at a time, which `database.writing` admits at the start of the transaction. On
PostgreSQL sequences are assigned outside of transactions, so an advisory lock of the transaction orders the writers.
Deadlocks cannot happen: a transaction locks its job first and the log last.
"""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert

from pipelines.run_folder.events import StatusData
from service.states import JobStatus
from service.store.locks import lock_event_log
from service.store.records import Job
from service.store.tables import events


def append_events(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Append rows of `events` without their `seq`, in a transaction of `database.writing`."""
    if not rows:
        return
    lock_event_log(connection)
    connection.execute(insert(events), rows)


def append_status_event(connection: Connection, job: Job, before: JobStatus | None, message: str | None = None) -> None:
    """Append the event that reports the change of `job` from `before` to its current status."""
    data = StatusData(before=before, to=job.status, attempt=job.attempt)
    row = {
        "job_id": job.id,
        "attempt": job.attempt,
        "time": time.time(),
        "kind": "status",
        "epoch": 0,
        "step": 0,
        "data": (data if message is None else data.model_copy(update={"message": message})).to_data(),
    }
    append_events(connection, [row])
