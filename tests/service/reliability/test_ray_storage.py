"""Jobs on a node of a real Ray that shares no disk with the service; an S3 server of the test carries their files."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, RunDir
from service.executors.local import LocalExecutor
from service.executors.process_tree import kill
from service.executors.ray.cluster import RayCluster
from service.run_sync.opening import scratch_root
from service.states import JobStatus
from service.store.records import Job
from tests.ray_cluster import CPUS, RayForTests
from tests.s3 import StoppableS3, unused_prefix
from tests.service.reliability.cluster import Cluster
from tests.service.waiting import wait_until

pytestmark = [pytest.mark.timeout(1800)]

CPUS_OF_NODE = CPUS + 1
"""More cores than the head has, whose disk is that of the service."""
AWAY_S = 60.0

STEPS = r"""
cd ../..
trap 'exit 75' TERM
mkdir -p checkpoints
n=$(cat checkpoints/last.ckpt 2>/dev/null || echo 0)
echo starts after $n
while [ $n -lt {steps} ]; do
  n=$((n + 1))
  echo $n > .new
  mv .new checkpoints/last.ckpt
  sleep 0.2
done
echo '{{}}' > result.json
"""
"""Counts, with a checkpoint for each step, and resumes from it."""


@dataclass(frozen=True)
class Remote:
    """A service, the node on which its jobs run, and the storage between them."""

    cluster: Cluster
    node: "subprocess.Popen[bytes]"
    s3: StoppableS3

    def submit(self, steps: int) -> Job:
        return self.cluster.submit(STEPS.format(steps=steps), cpus=CPUS_OF_NODE)

    def run_dir(self, job: Job) -> RunDir:
        return RunDir.of(self.cluster.settings.run_dir(job.id))

    def until_it_has_stored(self, job: Job) -> None:
        self.cluster.until(self.run_dir(job).last_checkpoint.exists)

    def pids(self, module: str, job: Job) -> list[int]:
        """Return the processes of a module that run an attempt of a job."""
        return [
            process.pid
            for process in psutil.process_iter(["cmdline", "environ"])
            if module in (process.info["cmdline"] or ())
            and job.id in (process.info["environ"] or {}).get(ATTEMPT_DIR_VARIABLE, "")
        ]

    def succeeds(self, job: Job, steps: int, attempts: int = 1) -> None:
        """Wait for a job, and check its attempts and files."""
        [ended] = self.cluster.ended([job])
        assert (ended.status, ended.attempt) == (JobStatus.SUCCEEDED, attempts), self.cluster.log()
        assert self.run_dir(job).last_checkpoint.read_text() == f"{steps}\n"
        for number in range(2, attempts + 1):
            log = self.run_dir(job).attempt(number) / "log.txt"
            assert int(log.read_text().split()[-1]) > 0, "it has resumed from a checkpoint in the storage"
        assert not list(scratch_root(self.cluster.settings).glob("*/*/checkpoints")), "the node shares no disk"


@pytest.fixture
def remote(ray: RayForTests, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Remote]:
    with ray.used() as settings:
        # In the network of Ray, as everything else.
        s3 = request.getfixturevalue("stoppable_s3")
        cluster = Cluster(
            tmp_path, f"sqlite:///{tmp_path / 'service.db'}", executor="ray", lease_s=15.0, storage_timeout_s=5.0,
            run_storage=unused_prefix(), run_scratch=tmp_path / "scratch", **settings,
        )  # fmt: skip
        with ray.with_another_node(CPUS_OF_NODE, own=tmp_path) as node:
            found = RayCluster(settings["ray_address"])
            wait_until(lambda: len(found.nodes()) == 2, "the node")
            yield Remote(cluster, node, s3)
            cluster.close()
            LocalExecutor(1, 0).sweep_orphans((), tmp_path)


@pytest.mark.integration
def test_job_succeeds_on_a_node_that_shares_no_disk(remote: Remote) -> None:
    remote.cluster.start_supervisor()
    job = remote.submit(steps=10)
    remote.succeeds(job, steps=10)
    assert (remote.run_dir(job).attempt(1) / "log.txt").read_text() == "starts after 0\n"
    address = remote.cluster.settings.ray_address
    assert address is not None
    [row] = [row for row in RayCluster(address)._answer("GET", "/api/jobs/") if job.id in str(row)]
    assert "AWS_" not in str(row)


@pytest.mark.reliability
@pytest.mark.parametrize("module", ["service.run_sync.ray_driver", "service.shim", "service.run_sync.node"])
def test_job_resumes_after_a_process_of_its_attempt_was_killed(remote: Remote, module: str) -> None:
    remote.cluster.start_supervisor()
    job = remote.submit(steps=50)
    remote.until_it_has_stored(job)
    pids = remote.pids(module, job)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    remote.succeeds(job, steps=50, attempts=2)


@pytest.mark.reliability
def test_job_resumes_on_another_node_after_the_loss_of_its_node(
    remote: Remote, ray: RayForTests, tmp_path: Path
) -> None:
    remote.cluster.start_supervisor()
    job = remote.submit(steps=50)
    remote.until_it_has_stored(job)
    LocalExecutor(1, 0).sweep_orphans((), tmp_path)
    kill(lambda table: [process for process in table.values() if process.session == remote.node.pid])
    with ray.with_another_node(CPUS_OF_NODE, own=tmp_path):
        remote.succeeds(job, steps=50, attempts=2)


@pytest.mark.reliability
def test_job_survives_a_minute_without_its_storage(remote: Remote) -> None:
    remote.cluster.start_supervisor()
    job = remote.submit(steps=100)
    remote.until_it_has_stored(job)
    remote.s3.stop()
    time.sleep(AWAY_S)
    assert remote.cluster.store.get(job.id).status is JobStatus.RUNNING
    remote.s3.start()
    remote.succeeds(job, steps=100)


@pytest.mark.reliability
def test_job_that_starts_without_its_storage_waits_for_it(remote: Remote) -> None:
    remote.s3.stop()
    remote.cluster.start_supervisor()
    job = remote.submit(steps=10)
    remote.cluster.until(lambda: remote.cluster.store.get(job.id).status is JobStatus.STARTING)
    time.sleep(AWAY_S)
    assert remote.cluster.store.get(job.id).status is JobStatus.STARTING
    remote.s3.start()
    remote.succeeds(job, steps=10)


@pytest.mark.reliability
def test_job_runs_once_although_its_supervisor_is_killed_again_and_again(remote: Remote, repetitions: int) -> None:
    job = remote.submit(steps=100)
    for number in range(min(repetitions, 5)):
        supervisor = remote.cluster.start_supervisor()
        time.sleep(2.0 * number)
        supervisor.kill()
        supervisor.wait()
    remote.cluster.start_supervisor()
    remote.succeeds(job, steps=100)
    assert (remote.run_dir(job).attempt(1) / "log.txt").read_text() == "starts after 0\n"


@pytest.mark.reliability
def test_job_is_cancelled_in_any_stage(remote: Remote, repetitions: int) -> None:
    remote.cluster.start_supervisor()
    for number in range(min(repetitions, 5)):
        job = remote.submit(steps=1000)
        if number % 2:
            remote.until_it_has_stored(job)
        else:
            time.sleep(1.5 * number)
        remote.cluster.store.request_cancel(job.id)
        assert remote.cluster.ended([job])[0].status is JobStatus.CANCELLED, remote.cluster.log()
        remote.cluster.until(lambda job=job: not remote.pids("service.shim", job))
