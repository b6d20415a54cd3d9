"""The store's promise of one total order of events, see `service.store.event_log`."""

import ast
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_mock_engine, select

from service import store as store_package
from service.states import JobStatus
from service.store.database import open_database, writing
from service.store.event_log import append_events
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job, NewJob
from service.store.tables import events
from tests.service.waiting import wait_until

NewJobs = Callable[..., NewJob]


def line(step: int) -> dict[str, Any]:
    return {"time": 0.0, "kind": "progress", "epoch": 0, "step": step, "data": {}}


def all_events(engine: Engine) -> list[tuple[int, str, int]]:
    with engine.connect() as connection:
        query = select(events.c.seq, events.c.job_id, events.c.step).order_by(events.c.seq)
        return [tuple(row) for row in connection.execute(query)]


@pytest.mark.representative
def test_no_event_appears_below_one_that_was_already_read(url: str, engine: Engine, new_job: NewJobs) -> None:
    """Four writers append, each with its own connections, while a reader takes snapshots."""
    snapshots = [all_events(engine)]
    num_running, changed = 4, threading.Lock()

    def write(number: int) -> None:
        nonlocal num_running
        own = open_database(url)
        try:
            store, leased = JobStore(own), LeasedStore(own, f"owner {number}")
            job = leased.claim(store.submit(new_job())[0].id, [])
            assert job is not None
            for step in range(0, 60, 3):
                job = leased.record_events(job, [line(step), line(step + 1), line(step + 2)], step + 3)
                if step % 15 == 0:  # so that the reader sees the log grow, however the threads are scheduled
                    so_far = len(snapshots)
                    wait_until(lambda so_far=so_far: len(snapshots) > so_far + 1, "another snapshot", pause_s=0.001)
        finally:
            own.dispose()
            with changed:
                num_running -= 1

    with ThreadPoolExecutor(4) as pool:
        written = [pool.submit(write, number) for number in range(4)]
        while num_running:
            snapshots.append(all_events(engine))
        for done in written:
            done.result()
    snapshots.append(all_events(engine))
    assert len(snapshots[-1]) == 4 * (2 + 60)
    for earlier, later in itertools.pairwise(snapshots):
        assert later[: len(earlier)] == earlier
    assert len({len(snapshot) for snapshot in snapshots}) > 4, "the reader saw the log grow"


def test_events_of_one_call_are_contiguous_and_in_their_order(
    engine: Engine, store: JobStore, leased: LeasedStore, new_job: NewJobs
) -> None:
    claimed = [leased.claim(store.submit(new_job())[0].id, []) for _ in range(2)]
    for job in claimed:
        assert job is not None
        leased.record_events(job, [line(step) for step in range(5)], 5)
    seqs = [[event.seq for event in store.events(job.id, after=0)][2:] for job in claimed if job]
    assert [found == list(range(found[0], found[0] + 5)) for found in seqs] == [True, True]
    assert store.last_seq() == seqs[1][-1]


def test_sequence_number_is_never_used_twice(store: JobStore, leased: LeasedStore, new_job: NewJobs) -> None:
    job, _ = store.submit(new_job())
    store.request_cancel(job.id)
    highest = store.last_seq()
    store.delete(job.id)
    assert store.last_seq() == 0
    [event] = store.events(store.submit(new_job())[0].id, after=0)
    assert event.seq > highest


def test_transaction_that_fails_leaves_no_event(engine: Engine, store: JobStore, new_job: NewJobs) -> None:
    job, _ = store.submit(new_job())
    row = {"job_id": job.id, "attempt": 0, **line(1)}
    with pytest.raises(RuntimeError), writing(engine) as connection:  # noqa: PT012
        append_events(connection, [row])
        raise RuntimeError
    with writing(engine) as connection:
        append_events(connection, [row, row])
    assert [event.kind for event in store.events(job.id, after=0)] == ["status", "progress", "progress"]


def test_every_change_of_status_is_followed_by_its_event_in_the_same_transaction(
    store: JobStore, leased: LeasedStore, new_job: NewJobs
) -> None:
    def last(job: Job) -> Any:
        return store.events(job.id, after=0)[-1].data["to"]

    job, _ = store.submit(new_job())
    assert last(job) is not None
    claimed = leased.claim(job.id, [])
    assert claimed is not None
    assert last(claimed) == claimed.status
    for step in (JobStatus.RUNNING, JobStatus.CANCELLING, JobStatus.CANCELLED):
        claimed = leased.move(claimed, step)
        assert last(claimed) == step


def test_on_postgresql_the_log_is_locked_before_a_number_is_assigned() -> None:
    statements: list[str] = []
    engine = create_mock_engine("postgresql+psycopg://", lambda statement, *_: statements.append(str(statement)))
    append_events(engine, [{"job_id": "a", "attempt": 0, **line(1)}])  # type: ignore[arg-type]
    assert [statement.split("(")[0].split()[:2] for statement in statements] == [
        ["SELECT", "pg_advisory_xact_lock"],
        ["INSERT", "INTO"],
    ]


def test_only_the_event_log_appends_events() -> None:
    folder = Path(str(store_package.__file__)).parent
    inserts = {
        path.name
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node).startswith(("insert(events", "insert(tables.events"))
    }
    assert inserts == {"event_log.py"}
