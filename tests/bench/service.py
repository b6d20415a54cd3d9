"""Measure how fast the API answers `/livez` and the list of jobs, without load and under load, and print a table.

The load is 200 connections without a request, 50 slow ones, 8 clients that ask for models while MLflow accepts
connections and never answers, and 500 listeners of 5 jobs, each of which gets an event every second. The API is the
real process over an SQLite file with 100,000 jobs. Two clients with one connection each measure, every 20 ms.

The last row shows how late this process wakes from a pause of 1 ms: with other work on the machine, no latency can be
better than that.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from sqlalchemy import Engine, insert

from service.child_process import child_environment, python_command
from service.settings import Settings
from service.states import JobStatus
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job, NewJob
from service.store.tables import jobs
from tests.bench.service_load import Load

FULL_LOAD = Load(idle=200, slow=50, models=8, listeners=500)
PATHS = {"/livez": 100.0, "/v1/jobs": 50.0}
"""Measured paths, with the goal for p99 in milliseconds."""
NUM_JOBS_WITH_LISTENERS = 5
PERIOD_S = 0.02
WARM_UP_S = 5.0
"""Time between the start of the load and its measurement, in which the API imports MLflow's client."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100_000, help="number of jobs in the database")
    parser.add_argument("--seconds", type=float, default=30.0, help="duration of each measurement")
    parser.add_argument("--load", type=json.loads, default=None, help="numbers of clients, such as '{\"idle\": 10}'")
    options = parser.parse_args()
    load = FULL_LOAD if options.load is None else Load(**options.load)
    print(f"{options.jobs} jobs, {load}, load average {os.getloadavg()[0]:.1f}\n")
    print(
        "| path | load | requests | p50, ms | p99, ms | maximum, ms | goal for p99, ms |\n|---|---|---|---|---|---|---|"
    )
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-service-")))
        settings = Settings(root=root, cpus=2, gpus=0)
        engine = open_database(settings.url_of_database)
        fill(engine, options.jobs)
        running = start_jobs(engine, NUM_JOBS_WITH_LISTENERS)
        port = stack.enter_context(api(settings, stack.enter_context(silent_server())))
        show("none", measure(port, options.seconds))
        stack.enter_context(loaded(port, load, [job.id for job in running]))
        stack.enter_context(events(engine, running))
        time.sleep(min(WARM_UP_S, options.seconds))
        show("full", measure(port, options.seconds))


def show(load: str, latencies_s: dict[str, list[float]]) -> None:
    """Print a row for each path."""
    for path, found in latencies_s.items():
        ms = sorted(1000 * value for value in found)
        p50, p99 = statistics.median(ms), ms[min(len(ms) - 1, int(0.99 * len(ms)))]
        print(
            f"| {path} | {load} | {len(ms)} | {p50:.1f} | {p99:.1f} | {ms[-1]:.1f} | {PATHS.get(path, '')} |",
            flush=True,
        )


def measure(port: int, seconds: float) -> dict[str, list[float]]:
    """Return the latencies of all requests, by path, and how late this process wakes up."""
    found: dict[str, list[float]] = {path: [] for path in PATHS} | {"(late by)": []}
    end = time.perf_counter() + seconds
    clients = [threading.Thread(target=ask, args=(port, path, end, found[path])) for path in PATHS]
    for client in clients:
        client.start()
    while time.perf_counter() < end:
        started = time.perf_counter()
        time.sleep(0.001)
        found["(late by)"].append(time.perf_counter() - started - 0.001)
        time.sleep(PERIOD_S)
    for client in clients:
        client.join()
    return found


def ask(port: int, path: str, end: float, latencies_s: list[float]) -> None:
    """Send requests over one connection until the end, and append their latencies."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while time.perf_counter() < end:
        started = time.perf_counter()
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: status {response.status}")
        latencies_s.append(time.perf_counter() - started)
        time.sleep(PERIOD_S)
    connection.close()


def fill(engine: Engine, number: int) -> None:
    """Add jobs that have ended, with documents of the usual size."""
    config = {"name": "many", "model": {"tasks": {f"task {task}": {"head": "fcos"} for task in range(20)}}}
    losses = {f"train/task/{term}": 0.5 for term in range(6)}
    row = {"name": "many", "config": config, "priority": 0, "cpus": 1, "gpus": 0, "attempt": 1, "failures": 0}
    row |= {"events_offset": 0, "progress": {"epoch": 3, "step": 99, "losses": losses}, "not_before": 0.0}
    with engine.begin() as connection:
        for first in range(0, number, 10_000):
            numbers = range(first, min(first + 10_000, number))
            statuses = ("failed" if n % 1000 == 0 else "succeeded" for n in numbers)
            rows = [
                {**row, "id": f"{n:012x}", "created_at": 1e9 + n, "status": status}
                for n, status in zip(numbers, statuses, strict=True)
            ]
            connection.execute(insert(jobs), rows)


def start_jobs(engine: Engine, number: int) -> list[Job]:
    """Return new running jobs."""
    store, leases, running = JobStore(engine), LeasedStore(engine, "bench"), []
    for _ in range(number):
        queued, _ = store.submit(NewJob(name="running", config={"name": "running"}, priority=0, cpus=1, gpus=0))
        job = leases.claim(queued.id, [])
        if job is None:
            raise RuntimeError("the job cannot be claimed")
        running.append(leases.move(job, JobStatus.RUNNING))
    return running


@contextmanager
def silent_server() -> Iterator[int]:
    """Accept connections and never answer; yield the port."""
    accepted: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                accepted.append(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in accepted:
            connection.close()


@contextmanager
def api(settings: Settings, mlflow_port: int) -> Iterator[int]:
    """Run the API process; yield its port when it answers."""
    environment = {**os.environ, **settings.environment(), "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow_port}"}
    with (
        socket.create_server(("127.0.0.1", 0), backlog=1024) as listener,
        (settings.root / "api.log").open("wb") as log,
    ):
        command = python_command("service.api.process", "--fd", str(listener.fileno()))
        process = subprocess.Popen(
            command, env=child_environment(environment), pass_fds=[listener.fileno()], stdout=log, stderr=log
        )
        port = listener.getsockname()[1]
        with terminated(process):
            for path in PATHS:  # the first request waits for the start of the process, and later ones are typical
                urlopen(f"http://127.0.0.1:{port}{path}", timeout=60).close()
            yield port


@contextmanager
def loaded(port: int, load: Load, job_ids: Sequence[str]) -> Iterator[None]:
    """Run the clients of the load in a process of their own."""
    command = [sys.executable, "-m", "tests.bench.service_load", str(port), load.as_argument(), *job_ids]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with terminated(process):
        if process.stdout is None or process.stdout.readline() != "started\n":
            raise RuntimeError("the load has not started")
        yield


@contextmanager
def events(engine: Engine, running: Sequence[Job]) -> Iterator[None]:
    """Record an event of each running job every second, as a supervisor would."""
    is_over = threading.Event()
    leases = LeasedStore(engine, "bench")

    def record() -> None:
        held, step = list(running), 0
        while not is_over.wait(1.0):
            step += 1
            new = {"time": time.time(), "kind": "metric", "epoch": 0, "step": step, "data": {"losses": {"a": 0.5}}}
            held = [leases.record_events(job, [new], job.events_offset + 1) for job in held]

    thread = threading.Thread(target=record)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def terminated(process: "subprocess.Popen[Any]") -> Iterator[None]:
    """Kill a process at the end."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
