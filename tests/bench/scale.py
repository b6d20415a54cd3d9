"""Measure the queue and the lists of jobs in databases with 100,000 jobs, and print tables for `docs/scale.md`.

Half of the jobs have ended, and the others wait. The databases are a PostgreSQL of this program, which syncs its
files, and an SQLite file. Claims are those of one supervisor over one connection; clients that submit are threads of
another process. The latency of the queue is measured with a supervisor process, and the lists with an API process and
one client.
"""

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import psutil
from sqlalchemy import Engine, update

from service.resources import CPUS, GPUS, NODES, ResourceCounts
from service.states import JobStatus
from service.store.database import open_database, writing
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job, NewJob
from service.store.supervisor_lease import LeaseStore
from service.store.tables import jobs
from service.supervisor.loop import QUEUE_PAGE
from service.supervisor.scheduling import next_starts
from tests.bench.many_rows import UNUSUAL_CPUS, fill
from tests.bench.scale_pages import measure_processes
from tests.bench.scale_timing import Times, measured, repeat
from tests.postgres import PostgresServer, create_database

REAL_SERVER = {
    "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "shared_buffers": "128MB", "autovacuum": "on",
}  # fmt: skip
"""The settings of the tests' PostgreSQL that differ from those of a real one; the values are PostgreSQL's defaults."""
OWNER = "bench"
SUBMITTERS = 4
REPETITIONS = 30


def main() -> None:
    """Print the tables of both databases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], action="append", help="default: both")
    parser.add_argument("--jobs", type=int, default=100_000, help="number of jobs in the database")
    parser.add_argument("--claims", type=int, default=500, help="number of claims, and of jobs of each other kind")
    parser.add_argument("--latencies", type=int, default=40, help="number of jobs that measure the latency")
    options = parser.parse_args()
    for name in options.database or ["postgresql", "sqlite"]:
        with (
            tempfile.TemporaryDirectory(prefix="bench-scale-") as folder,
            database(name, Path(folder)) as (url, servers),
        ):
            engine = open_database(url)
            started = time.perf_counter()
            fill(engine, options.jobs)
            taken_s = time.perf_counter() - started
            print(f"\n## {name}: {options.jobs} jobs, written in {taken_s:.0f} s; load {os.getloadavg()[0]:.1f}\n")
            measure_queue(engine, options.claims, servers)
            measure_processes(Path(folder), url, options.jobs, options.latencies, REPETITIONS, servers)
            engine.dispose()


@contextmanager
def database(name: str, folder: Path) -> Iterator[tuple[str, Sequence[psutil.Process]]]:
    """Yield the URL of an empty database, and the first process of its server if it has one."""
    if name == "sqlite":
        yield f"sqlite:///{folder / 'service.db'}", ()
        return
    server = PostgresServer(REAL_SERVER)
    try:
        yield create_database(server.folder), (server.postmaster,)
    finally:
        server.close()


def measure_queue(engine: Engine, number: int, servers: Sequence[psutil.Process]) -> None:
    """Print the times of the supervisor's writes, alone and beside clients that submit jobs."""
    LeaseStore(engine, OWNER, "host").take(None, None)
    leased, store = LeasedStore(engine, OWNER), JobStore(engine)
    waiting = iter(leased.queued(4 * number))
    print("| operation | per second | fastest, ms | median, ms | p99, ms | processor, ms |\n|---|---|---|---|---|---|")

    def show(what: str, call: Callable[[], object], times: int) -> None:
        print_row(what, measured(call, times, servers))

    def claim() -> Job:
        return claimed(leased, next(waiting))

    show("read the queue, the first jobs fit", partial(choose, leased, UNUSUAL_CPUS), REPETITIONS)
    show("read the queue, no waiting job fits", partial(choose, leased, UNUSUAL_CPUS - 1), REPETITIONS)
    show("claim", claim, number)
    show("claim, run and end a job (6 transactions)", lambda: run(leased, next(waiting)), number // 5)
    running = RunningJob(leased, leased.move(claim(), JobStatus.RUNNING))
    show("record an event of a running job", running.record_event, number)
    show("submit", partial(store.submit, new_job()), number)
    with submitting(engine) as latencies_s:
        show(f"claim, with {SUBMITTERS} clients that submit", claim, number)
    times = Times(sorted(1000 * one for one in latencies_s), clients=SUBMITTERS)
    print_row(f"submit, by {SUBMITTERS} clients beside the claims", times)
    with writing(engine) as connection:  # the supervisor of the next part would try to adopt them
        connection.execute(update(jobs).where(jobs.c.lease_owner.is_not(None)).values(status="cancelled"))
    LeaseStore(engine, OWNER, "host").release()


def print_row(what: str, times: Times) -> None:
    processor = "" if times.processor_ms is None else f"{times.processor_ms:.1f}"
    numbers = f"{times.rate:.0f} | {times.ms[0]:.1f} | {times.median:.1f} | {times.p99:.1f} | {processor}"
    print(f"| {what} | {numbers} |", flush=True)


def choose(leased: LeasedStore, cpus: int) -> Sequence[Job]:
    """Choose the jobs that start next, as a supervisor without active jobs does in each round."""

    def page(after: Job | None, within: ResourceCounts) -> list[Job]:
        return leased.queued(QUEUE_PAGE, after=after, within=within)

    return next_starts(page, (), {CPUS: cpus, GPUS: 0, NODES: 1}, lambda job: True)


def claimed(leased: LeasedStore, job: Job) -> Job:
    held = leased.claim(job.id, [])
    if held is None:
        raise RuntimeError(f"job {job.id} cannot be claimed")
    return held


class RunningJob:
    """A running job whose trainer reports progress."""

    def __init__(self, leased: LeasedStore, job: Job) -> None:
        self._leased, self._job = leased, job

    def record_event(self) -> Job:
        """Record one event, as a supervisor does that has found a new line."""
        losses = {f"train/task/{term}": 0.5 for term in range(6)}
        event = {"time": time.time(), "kind": "progress", "epoch": 0, "step": 1, "data": {"losses": losses}}
        self._job = self._leased.record_events(self._job, [event], self._job.events_offset + 300)
        return self._job


def run(leased: LeasedStore, job: Job) -> None:
    """Do everything that is written for a job that succeeds after one progress event."""
    held = RunningJob(leased, leased.move(claimed(leased, job), JobStatus.RUNNING)).record_event()
    held = leased.move(held, JobStatus.FINALIZING)
    leased.end_attempt(held, "succeeded", 0)
    leased.move(held, JobStatus.SUCCEEDED)


def new_job() -> NewJob:
    return NewJob(name="new", config={"name": "new"}, priority=-100, cpus=UNUSUAL_CPUS, gpus=0)


@contextmanager
def submitting(engine: Engine) -> Iterator[list[float]]:
    """Submit jobs in several threads of another process; the yielded list gets their latencies at the end."""
    spawning = multiprocessing.get_context("spawn")
    has_started, is_over, found = spawning.Event(), spawning.Event(), spawning.Queue()
    url, latencies_s = engine.url.render_as_string(hide_password=False), list[float]()
    process = spawning.Process(target=submit_in_threads, args=(url, has_started, is_over, found))
    process.start()
    try:
        has_started.wait()
        yield latencies_s
        is_over.set()
        latencies_s += found.get()
        process.join()
    finally:
        process.kill()


def submit_in_threads(url: str, has_started: Event, is_over: Event, found: "Queue[list[float]]") -> None:
    """Submit jobs one after the other in each thread until an event is set, and send the latencies."""
    store, latencies_s = JobStore(open_database(url)), list[float]()

    def submit() -> None:
        while not is_over.is_set():
            latencies_s.extend(repeat(partial(store.submit, new_job()), 1))
            has_started.set()

    threads = [threading.Thread(target=submit) for _ in range(SUBMITTERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.put(latencies_s)


if __name__ == "__main__":
    main()
