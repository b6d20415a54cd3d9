"""Outages of the database: clients get 503, and everything continues by itself once the database answers again."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.states import JobStatus
from service.store.errors import StoreUnavailable
from service.store.jobs import JobStore
from service.store.records import Job
from tests.postgres import PostgresServer, create_database
from tests.service.reliability.cluster import SCRIPT, Cluster

pytestmark = pytest.mark.reliability

UNREACHABLE_S = 60.0


@pytest.fixture
def outage_cluster(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Cluster]:
    """A cluster on a server that the test may stop."""
    cluster = Cluster(tmp_path, create_database(postgres_server.folder), database_timeout_s=4.0)
    yield cluster
    if postgres_server.process is not None and postgres_server.process.poll() is None:
        postgres_server.resume()
    cluster.close()


def submit_until_accepted(cluster: Cluster, key: str) -> Job:
    """Submit a job with a key until the database accepts it, as a client does."""
    while True:
        try:
            return cluster.submit(SCRIPT.format(seconds=0.2), key=key)
        except StoreUnavailable:
            time.sleep(0.1)


@pytest.mark.timeout(900)
def test_server_that_restarts_under_load_loses_and_repeats_nothing(
    outage_cluster: Cluster, postgres_server: PostgresServer, repetitions: int
) -> None:
    cluster = outage_cluster
    cluster.start_supervisor()
    cluster.start_supervisor()
    _, client = cluster.start_api()
    over = threading.Event()
    answers: list[int] = []

    def read() -> None:
        while not over.is_set():
            answers.append(client.get("/v1/jobs").status_code)

    with ThreadPoolExecutor(5) as pool:
        reading = pool.submit(read)
        try:
            submitted = [pool.submit(submit_until_accepted, cluster, f"key {n}") for n in range(10 * repetitions)]
            for _ in range(repetitions):
                time.sleep(2.0)
                postgres_server.stop()
                time.sleep(0.5)
                postgres_server.start()
            jobs = [done.result(DEADLINE_S) for done in submitted]
            ended = cluster.ended(jobs)
        finally:
            over.set()
        reading.result(60)
    assert set(answers) <= {200, 503}
    assert answers[-1] == 200
    assert len({job.id for job in jobs}) == len(jobs) == 10 * repetitions
    assert len(cluster.store.page(limit=1000)) == len(jobs)
    assert {job.status for job in ended} == {JobStatus.SUCCEEDED}
    cluster.check_each_ran_alone(jobs)


DEADLINE_S = 300.0


@pytest.mark.timeout(900)
def test_server_that_does_not_answer_for_a_minute_is_survived(
    outage_cluster: Cluster, postgres_server: PostgresServer
) -> None:
    cluster = outage_cluster
    cluster.start_supervisor()
    _, client = cluster.start_api()
    running = cluster.submit(SCRIPT.format(seconds=UNREACHABLE_S + 5))
    cluster.until(lambda: cluster.store.get(running.id).status is JobStatus.RUNNING)
    assert client.get("/readyz").status_code == 200
    postgres_server.pause()
    try:
        deadline, slowest_s = time.monotonic() + UNREACHABLE_S, 0.0
        while time.monotonic() < deadline:
            started = time.monotonic()
            assert client.get("/livez").status_code == 200
            slowest_s = max(slowest_s, time.monotonic() - started)
            answer = client.get("/v1/jobs")
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert client.get("/readyz").status_code == 503
    finally:
        postgres_server.resume()
    print(f"the slowest answer of /livez took {slowest_s:.3f} s")
    cluster.until(lambda: client.get("/readyz").status_code == 200)
    later = cluster.until(lambda: cluster.submit())
    cluster.check_each_ran_alone([running, later])


@pytest.mark.timeout(900)
def test_sqlite_file_that_is_locked_for_a_minute_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "service.db"
    cluster = Cluster(tmp_path, f"sqlite:///{path}", database_timeout_s=4.0)
    try:
        cluster.start_supervisor()
        _, client = cluster.start_api()
        running = cluster.submit(SCRIPT.format(seconds=UNREACHABLE_S + 5))
        cluster.until(lambda: cluster.store.get(running.id).status is JobStatus.RUNNING)
        holder = sqlite3.connect(path, isolation_level=None)
        cluster.until(lambda: begin(holder))
        deadline = time.monotonic() + UNREACHABLE_S
        while time.monotonic() < deadline:
            assert client.get("/livez").status_code == 200
            assert client.get("/v1/jobs").status_code == 200, "reading is possible"
            answer = client.post(f"/v1/jobs/{running.id}/cancel")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        holder.execute("ROLLBACK")
        holder.close()
        cluster.until(lambda: client.get("/readyz").status_code == 200)
        later = cluster.until(lambda: cluster.submit())
        cluster.check_each_ran_alone([running, later])
    finally:
        cluster.close()


def begin(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


@pytest.mark.timeout(600)
def test_service_starts_before_its_database_and_is_ready_once_it_answers(
    outage_cluster: Cluster, postgres_server: PostgresServer
) -> None:
    cluster = outage_cluster
    cluster.submit()
    postgres_server.stop()
    supervisor = cluster.start_supervisor()
    api, client = cluster.start_api()
    assert client.get("/readyz").status_code == 503
    assert client.get("/v1/jobs").status_code == 503
    postgres_server.start()
    cluster.until(lambda: client.get("/readyz").status_code == 200)
    assert supervisor.poll() is None
    assert api.poll() is None
    cluster.check_each_ran_alone(JobStore(cluster.engine).page())
