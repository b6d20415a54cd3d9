"""Attempts that share no disk with the service: nothing is lost when their node or their storage dies."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, RunDir
from service.run_sync.commits import stored_jobs
from service.run_sync.opening import run_objects
from service.states import JobStatus
from service.store.records import Event, Job
from tests.s3 import StoppableS3, unused_prefix
from tests.service.reliability.cluster import Cluster

pytestmark = pytest.mark.reliability

AWAY_S = 60.0

STEPS = r"""
cd ../..
mkdir -p checkpoints
n=$(cat checkpoints/last.ckpt 2>/dev/null || echo 0)
echo starts after $n
event='{{"time": %s, "kind": "progress", "epoch": 0, "step": %s, "data": {{}}}}\n'
while [ $n -lt {steps} ]; do
  n=$((n + 1))
  printf "$event" $(date +%s.%N) $n >> events.jsonl
  echo $n > .new
  mv .new checkpoints/last.ckpt
  sleep {pause_s}
done
echo '{{}}' > result.json
"""
"""Counts, with an event and a checkpoint for each step, and resumes from the checkpoint."""


@pytest.fixture
def remote(tmp_path: Path, stoppable_s3: StoppableS3) -> Iterator[Cluster]:
    """A cluster whose attempts work in scratch folders."""
    url = f"sqlite:///{tmp_path / 'service.db'}"
    cluster = Cluster(tmp_path, url, run_storage=unused_prefix(), storage_timeout_s=5.0)
    yield cluster
    cluster.close()


def progress(cluster: Cluster, job: Job) -> list[Event]:
    return [event for event in cluster.store.events(job.id, after=0, limit=10_000) if event.kind == "progress"]


def check_all_steps(cluster: Cluster, job: Job, steps: int) -> None:
    run_dir = RunDir.of(cluster.settings.run_dir(job.id))
    assert {event.step for event in progress(cluster, job)} == set(range(1, steps + 1))
    assert run_dir.last_checkpoint.read_text() == f"{steps}\n"
    assert not list((cluster.settings.root / ".scratch").glob("*/*/checkpoints"))


def kill_node(scratch: Path) -> None:
    """Kill all processes of an attempt at once, and destroy its disk."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(ATTEMPT_DIR_VARIABLE, "").startswith(str(scratch)):
                os.kill(process.pid, signal.SIGKILL)
    shutil.rmtree(scratch)


@pytest.mark.timeout(900)
def test_attempt_resumes_on_another_node_after_the_death_of_its_node(remote: Cluster, repetitions: int) -> None:
    cluster, steps, deaths = remote, 60 * min(repetitions, 2), min(repetitions, 2)
    cluster.start_supervisor()
    job = cluster.submit(STEPS.format(steps=steps, pause_s=0.2))
    for number in range(1, deaths + 1):
        cluster.until(lambda number=number: any(event.attempt == number for event in progress(cluster, job)))
        # Events may be stored before the checkpoint of their step.
        cluster.until(RunDir.of(cluster.settings.run_dir(job.id)).last_checkpoint.exists)
        kill_node(cluster.settings.root / ".scratch" / str(number))
    [ended] = cluster.ended([job])
    assert (ended.status, ended.attempt) == (JobStatus.SUCCEEDED, deaths + 1), cluster.log()
    check_all_steps(cluster, job, steps)
    for number in range(2, deaths + 2):
        log = RunDir.of(cluster.settings.run_dir(job.id)).attempt(number) / "log.txt"
        assert int(log.read_text().split()[-1]) > 0, "it has resumed from a checkpoint in the storage"
    objects = run_objects(cluster.settings)
    assert objects is not None
    assert stored_jobs(objects) == {job.id}
    cluster.start_collection().wait()
    assert stored_jobs(objects) == set()


@pytest.mark.timeout(900)
def test_attempt_survives_a_minute_without_its_storage(remote: Cluster, stoppable_s3: StoppableS3) -> None:
    cluster, steps = remote, 250
    cluster.start_supervisor()
    job = cluster.submit(STEPS.format(steps=steps, pause_s=0.3))
    cluster.until(lambda: progress(cluster, job))
    stoppable_s3.stop()
    time.sleep(AWAY_S)
    before = len(progress(cluster, job))
    stoppable_s3.start()
    [ended] = cluster.ended([job])
    assert (ended.status, ended.attempt) == (JobStatus.SUCCEEDED, 1), cluster.log()
    assert before < steps
    check_all_steps(cluster, job, steps)


@pytest.mark.timeout(900)
def test_attempt_that_ends_without_its_storage_waits_for_it(remote: Cluster, stoppable_s3: StoppableS3) -> None:
    cluster, steps = remote, 5
    cluster.start_supervisor()
    job = cluster.submit(STEPS.format(steps=steps, pause_s=0.3))
    cluster.until(lambda: progress(cluster, job))
    stoppable_s3.stop()
    time.sleep(15)
    assert cluster.store.get(job.id).status is JobStatus.RUNNING
    stoppable_s3.start()
    [ended] = cluster.ended([job])
    assert (ended.status, ended.attempt) == (JobStatus.SUCCEEDED, 1), cluster.log()
    check_all_steps(cluster, job, steps)


@pytest.mark.timeout(900)
def test_events_reach_the_database_soon(remote: Cluster) -> None:
    """The time between an event and its row is printed; it is a goal of at most 2 s on a machine that is not busy."""
    cluster, steps = remote, 60
    cluster.start_supervisor()
    job = cluster.submit(STEPS.format(steps=steps, pause_s=0.5))
    delays: list[float] = []
    while len(delays) < steps:
        known = len(delays)
        events = cluster.until(lambda known=known: progress(cluster, job)[known:])
        delays += [time.time() - event.time for event in events]
    delays.sort()
    print(f"events in the database after {delays[len(delays) // 2]:.2f} s (median), at most {delays[-1]:.2f} s")
    assert cluster.ended([job])[0].status is JobStatus.SUCCEEDED
