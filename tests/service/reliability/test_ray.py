"""Jobs on a real Ray run once each and end, whichever process is killed and whenever they are cancelled."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pipelines.run_folder.layout import RunDir
from service.executors.process_tree import processes, variable_of
from service.states import JobStatus
from service.store.records import Job
from tests.ray_cluster import CPUS, RayForTests
from tests.service.reliability.cluster import SCRIPT, Cluster

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(3600)]

RESUMING = """
cd ../..
exec 9> lock
flock -n 9 || touch twice
trap 'exit 75' TERM
n=0; while [ $n -lt 30 ]; do sleep 0.1; n=$((n+1)); done
echo '{}' > result.json
"""
"""Leaves `twice` if two attempts of one job run at once."""
VICTIMS = {"driver": "ray.driver", "shim": "service.shim", "worker of Ray": "ray.driver"}


@pytest.fixture
def cluster(ray: RayForTests, tmp_path: Path) -> Iterator[Cluster]:
    with ray.used() as settings:
        cluster = Cluster(tmp_path, f"sqlite:///{tmp_path / 'service.db'}", executor="ray", lease_s=15.0, **settings)
        yield cluster
        cluster.close()


def folder_of(cluster: Cluster, job: Job) -> Path:
    return RunDir.of(cluster.settings.run_dir(job.id)).attempt(cluster.store.get(job.id).attempt)


def pids(cluster: Cluster, job: Job, words: str) -> list[int]:
    folder = str(folder_of(cluster, job))
    lines = {process.pid: " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])}
    return [pid for pid, line in lines.items() if words in line and folder in line]


def has_no_process(cluster: Cluster) -> bool:
    marks = [variable_of(process, "PYRAMIDION_ATTEMPT_DIR") or "" for process in processes().values()]
    return not [mark for mark in marks if mark.startswith(str(cluster.settings.root))]


def test_30_jobs_on_two_slots_run_once_each_in_their_order(cluster: Cluster) -> None:
    jobs = [cluster.submit(SCRIPT.format(seconds=0.2)) for _ in range(30)]
    cluster.start_supervisor()
    cluster.ended(jobs)
    cluster.check_each_ran_alone(jobs)
    starts = [cluster.store.attempts(job.id)[0].started_at for job in jobs]
    assert starts == sorted(starts)


@pytest.mark.parametrize("victim", VICTIMS)
def test_job_succeeds_although_a_process_of_its_attempt_is_killed(
    cluster: Cluster, repetitions: int, victim: str
) -> None:
    cluster.start_supervisor()
    for _ in range(repetitions):
        job = cluster.submit(RESUMING)
        cluster.until(lambda job=job: cluster.store.get(job.id).status is JobStatus.RUNNING)
        time.sleep(3 * random.random())
        for pid in pids(cluster, job, VICTIMS[victim]):
            with suppress(psutil.Error, ProcessLookupError):
                if victim == "worker of Ray":
                    psutil.Process(pid).parent().kill()
                else:
                    os.kill(pid, signal.SIGKILL)
        assert cluster.ended([job])[0].status is JobStatus.SUCCEEDED, cluster.log()
        assert not (cluster.settings.run_dir(job.id) / "twice").exists()
    cluster.until(lambda: has_no_process(cluster))


def test_jobs_of_a_node_whose_raylet_is_killed_succeed_on_another(
    cluster: Cluster, ray: RayForTests, repetitions: int
) -> None:
    cluster.start_supervisor()
    for _ in range(repetitions):
        with ray.with_another_node(CPUS) as node:
            jobs = [cluster.submit(RESUMING) for _ in range(2 * CPUS)]
            cluster.until(lambda jobs=jobs: cluster.store.get(jobs[-1].id).status is JobStatus.RUNNING)
            time.sleep(2 * random.random())
            [raylet] = [one for one in psutil.Process(node.pid).children() if one.name() == "raylet"]
            raylet.kill()
            assert {job.status for job in cluster.ended(jobs)} == {JobStatus.SUCCEEDED}, cluster.log()
        assert not [job for job in jobs if (cluster.settings.run_dir(job.id) / "twice").exists()]
    cluster.until(lambda: has_no_process(cluster))


def test_api_that_is_killed_changes_no_attempt(cluster: Cluster, repetitions: int) -> None:
    cluster.start_supervisor()
    api, client = cluster.start_api()
    for _ in range(repetitions):
        job = cluster.submit(RESUMING)
        time.sleep(3 * random.random())
        api.kill()
        client.close()
        api, client = cluster.start_api()
        path = f"/v1/jobs/{job.id}"
        cluster.until(lambda client=client, path=path: client.get(path).json()["status"] == "succeeded")
        assert client.get(path).json()["attempt"] == 1
        assert not (cluster.settings.run_dir(job.id) / "twice").exists()
    client.close()


def test_supervisor_that_is_killed_leaves_the_attempts_to_the_next_one(cluster: Cluster, repetitions: int) -> None:
    supervisor = cluster.start_supervisor()
    for _ in range(repetitions):
        job = cluster.submit(RESUMING)
        time.sleep(5 * random.random())
        supervisor.kill()
        supervisor = cluster.start_supervisor()
        [ended] = cluster.ended([job])
        assert (ended.status, ended.attempt) == (JobStatus.SUCCEEDED, 1), cluster.log()
        assert not (cluster.settings.run_dir(job.id) / "twice").exists()


def test_job_is_cancelled_in_any_stage(cluster: Cluster, repetitions: int) -> None:
    cluster.start_supervisor()
    for _ in range(repetitions):
        jobs = [cluster.submit("trap 'exit 75' TERM; while :; do sleep 0.1; done") for _ in range(3)]
        for job in jobs:
            time.sleep(3 * random.random())
            cluster.store.request_cancel(job.id)
        assert {job.status for job in cluster.ended(jobs)} == {JobStatus.CANCELLED}
    cluster.until(lambda: has_no_process(cluster))
