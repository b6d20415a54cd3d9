"""Lists of jobs contain every job once, no matter what changes in the meantime, and are fast."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, insert, update

from service.states import JobStatus
from service.store.database import open_database, writing
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job, NewJob
from service.store.tables import jobs

STATUSES = tuple(JobStatus)
NAMES = ("a", "b", "c")
KINDS = ("fit", "other")
TENANTS = ("local", "blue")


def fill(engine: Engine, number: int, created_at: Callable[[int], float] = float, pad: int = 0) -> None:
    """Insert jobs in bulk, in all states, with three names and two owners, and a tenth of them of another kind."""
    rows = [
        {
            "id": f"{index:012x}", "name": NAMES[index % 3], "config": {"pad": "x" * pad}, "priority": index % 7 - 3,
            "kind": KINDS[index % 10 == 7], "status": STATUSES[index * 5 % 8], "cpus": 1, "gpus": 0,
            "created_at": created_at(index), "not_before": 0.0, "attempt": 0, "failures": 0, "events_offset": 0,
            "tenant": TENANTS[index // 5 % 2],
        }
        for index in range(number)
    ]  # fmt: skip
    with writing(engine) as connection:
        connection.execute(insert(jobs), rows)


def pages(store: JobStore, limit: int, **filters: object) -> Iterator[list[Job]]:
    before = None
    while page := store.page(before_number=before, limit=limit, **filters):  # type: ignore[arg-type]
        yield page
        before = page[-1].number


def test_thousand_jobs_are_paged_without_gaps_or_duplicates_while_others_are_added(
    engine: Engine, store: JobStore, new_job: Callable[..., NewJob]
) -> None:
    fill(engine, 1000)
    over = threading.Event()
    first_came = threading.Event()

    def insert_more() -> None:
        while not over.is_set():
            store.submit(new_job())
            first_came.set()

    writer = threading.Thread(target=insert_more)
    writer.start()
    try:
        assert first_came.wait(30)
        seen = [job.number for page in pages(store, 30) for job in page]
    finally:
        over.set()
        writer.join()
    assert seen == sorted(set(seen), reverse=True)
    assert [number for number in seen if number <= 1000] == list(range(1000, 0, -1))
    assert len(store.page(limit=2000)) > len(seen) or max(seen) > 1000, "others were added"


def test_jobs_that_change_their_state_appear_once(engine: Engine, store: JobStore, leased: LeasedStore) -> None:
    fill(engine, 300)
    seen = []
    for page in pages(store, 20):
        seen += [job.number for job in page]
        for job in leased.queued(limit=3):
            leased.claim(job.id, [])
    assert seen == list(range(300, 0, -1))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobStore]:
    from service.store.database import open_database

    engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('many') / 'service.db'}")
    # The clock was set back twice, so time is not the order of submission.
    fill(engine, 240, created_at=lambda index: float(index - 30 * (index > 100) - 50 * (index > 160)))
    yield JobStore(engine)
    engine.dispose()


def maybe(strategy: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.none() | strategy


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    statuses=st.lists(st.sampled_from(STATUSES), unique=True),
    kinds=st.lists(st.sampled_from([*KINDS, "unknown"]), unique=True),
    name=st.none() | st.sampled_from([*NAMES, "nobody"]),
    created_after=maybe(st.integers(-5, 250).map(float)),
    created_before=maybe(st.integers(-5, 250).map(float)),
    limit=st.integers(7, 60),
    tenant=st.none() | st.sampled_from([*TENANTS, "nobody"]),
)
def test_pages_with_any_filters_equal_a_scan(
    many: JobStore,
    statuses: list[JobStatus],
    kinds: list[str],
    name: str | None,
    created_after: float | None,
    created_before: float | None,
    limit: int,
    tenant: str | None,
) -> None:
    filters = {"statuses": statuses, "kinds": kinds, "name": name, "tenant": tenant}
    times = {"created_after": created_after, "created_before": created_before}
    found = [job for page in pages(many, limit, **filters, **times) for job in page]
    assert found == [
        job
        for job in many.page(limit=1000)
        if (not statuses or job.status in statuses)
        and (tenant is None or job.tenant == tenant)
        and (not kinds or job.kind in kinds)
        and (name is None or job.name == name)
        and (created_after is None or job.created_at > created_after)
        and (created_before is None or job.created_at < created_before)
    ]


FILTERS = {
    "none": {},
    "one state": {"statuses": [JobStatus.QUEUED]},
    "three states": {"statuses": [JobStatus.QUEUED, JobStatus.FAILED, JobStatus.SUCCEEDED]},
    "name": {"name": "b"},
    "unknown name": {"name": "nobody"},
    "name and state": {"name": "a", "statuses": [JobStatus.CANCELLED]},
    "kind": {"kinds": ["other"]},
    "kind and state": {"kinds": ["fit", "other"], "statuses": [JobStatus.QUEUED]},
    "kind and name": {"kinds": ["other"], "name": "a"},
    "early": {"created_before": 700.0},
    "late": {"created_after": 99_300.0},
    "window": {"created_after": 50_000.0, "created_before": 50_700.0},
    "window, name and state": {
        "created_after": 500.0,
        "created_before": 90_000.0,
        "name": "a",
        "statuses": STATUSES[:2],
    },
    "tenant": {"tenant": "blue"},
    "tenant, name and state": {"tenant": "blue", "name": "b", "statuses": STATUSES[:2]},
    "tenant and state": {"tenant": "blue", "statuses": STATUSES[:2]},
    "tenant and kind": {"tenant": "blue", "kinds": ["fit"]},
    "tenant, window": {"tenant": "blue", "created_after": 50_000.0, "created_before": 50_700.0},
}


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("before_number", [None, 500])
def test_no_page_scans_or_sorts_the_table(
    sqlite_url: str, filters: dict[str, object], before_number: int | None
) -> None:
    engine = open_database(sqlite_url)
    store = JobStore(engine)
    fill(engine, 300, created_at=lambda index: 350.0 * index)
    asked: list[tuple[str, tuple[object, ...]]] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _k, sql, values, *_: asked.append((sql, values)))
    store.page(before_number=before_number, **filters)  # type: ignore[arg-type]
    selects = [(sql, values) for sql, values in asked if sql.startswith("SELECT")]
    assert len(selects) == 1 + bool({"created_after", "created_before"} & filters.keys())
    for sql, values in selects:
        with engine.connect() as connection:
            plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
        walks = [step for step in plan if step.startswith(("SCAN jobs", "SEARCH jobs"))]
        assert walks
        if plan != ["SCAN jobs"]:  # by key, newest first, until the page is full
            assert all(" USING " in step for step in walks), plan
        # Only the numbers found by the branches are sorted, at most `limit` each.
        assert "TEMP B-TREE" not in " ".join(plan) or any(key in filters for key in ("statuses", "kinds", "name")), plan
        assert "config" not in sql


@pytest.mark.slow
def test_no_page_reads_over_many_jobs_on_postgresql(postgres_url: str) -> None:
    engine = open_database(postgres_url)
    store = JobStore(engine)
    fill(engine, 20_000, pad=1000)
    with writing(engine) as connection:  # as in a long queue: what has ended is older than what waits
        connection.execute(update(jobs).where(jobs.c.number > 10_000).values(status="queued"))
        connection.execute(update(jobs).where(jobs.c.number <= 10_000).values(status="succeeded"))
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("VACUUM ANALYZE jobs")
    asked: list[tuple[str, dict[str, object]]] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _k, sql, values, *_: asked.append((sql, values)))
    for filters in FILTERS.values():
        for before_number in (None, 500):
            store.page(before_number=before_number, **filters)  # type: ignore[arg-type]
    for sql, values in [(sql, values) for sql, values in asked if sql.startswith("SELECT")]:
        with engine.connect() as connection:
            plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN ANALYZE {sql}", values).scalars())
        assert "Seq Scan on jobs" not in plan, (sql, plan)
        assert max(map(int, re.findall(r"Rows Removed by Filter: (\d+)", plan)), default=0) < 2000, (sql, plan)
    engine.dispose()


@pytest.mark.slow
def test_first_and_a_deep_page_of_100_000_jobs_take_a_few_milliseconds(
    engine: Engine, store: JobStore, leased: LeasedStore
) -> None:
    fill(engine, 100_000, pad=3000)
    if engine.dialect.name == "postgresql":  # its own process does that after a while
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE jobs")
    asks: dict[str, Callable[[], object]] = {
        f"{name}, {place}": partial(store.page, before_number=before, **filters)  # type: ignore[arg-type]
        for name, filters in FILTERS.items()
        for place, before in (("first", None), ("deep", 1000))
    }
    asks |= {"unsettled": leased.unsettled, "counts": store.counts, "oldest": store.oldest_queued_at}
    asks |= {"queue": lambda: leased.queued(limit=100), "ahead": lambda: store.jobs_ahead(leased.queued(limit=1)[0])}
    # CPU time of this thread, in which SQLite runs, so that a busy machine does not matter. Wall times are printed.
    medians = {}
    for name, ask in asks.items():
        wall_ms, own_ms = [], []
        for _ in range(51):
            wall, own = time.perf_counter(), time.thread_time()
            ask()
            own_ms.append((time.thread_time() - own) * 1e3)
            wall_ms.append((time.perf_counter() - wall) * 1e3)
        medians[name] = median(own_ms)
        print(
            f"{name:32s} own {medians[name]:6.2f} ms, wall {median(wall_ms):6.2f} ms, p98 {sorted(wall_ms)[-2]:6.2f} ms"
        )
    assert {name: ms for name, ms in medians.items() if ms > 20} == {}
    assert max(medians["none, first"], medians["none, deep"]) < 5
