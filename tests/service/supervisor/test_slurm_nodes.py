"""Jobs on two nodes of a real Slurm cluster: they train together, and a stop or the loss of a node ends both."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.base.ranks import NODE_FOLDER, NODE_RANK
from service.executors.slurm.executor import SlurmExecutor
from service.settings import Settings
from service.states import JobStatus
from tests.service.supervisor.conftest import Bench
from tests.service.supervisor.two_nodes import begin_training, resume_training
from tests.service.waiting import wait_until
from tests.slurm import NUM_CPUS, SlurmCluster

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(1800)]

MARK = "a-command-of-this-test"
MEET = f"""
[ "$(basename $PWD)" = 1 ] || {{ [ ${NODE_RANK} = 1 ] || {Bench.SUCCEED}; exit 0; }}
attempt=$PWD
cd "${NODE_FOLDER}"
[ ${NODE_RANK} = 1 ] || {{ echo '{{}}' > .order; mv .order order; }}
touch here
until [ -e all-here ]; do sleep 0.02; done
trap 'echo stopped on $(hostname); touch stop; exit 75' TERM
echo $(hostname) > $attempt/met-${NODE_RANK}
: {MARK}
while [ ! -e stop ] && [ ! -e fault ]; do sleep 0.05; done
[ -e fault ] && cat fault && exit 1
exit 75
"""
"""In the first attempt, both nodes meet, and run until a stop or a fault; the second one succeeds."""


@pytest.fixture
def made(
    two_slurm_nodes: SlurmCluster, bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Bench]:
    def executor(cpus: int, gpus: int) -> SlurmExecutor:
        return SlurmExecutor(Settings(executor="slurm"))

    monkeypatch.setattr("tests.service.supervisor.conftest.LocalExecutor", executor)
    return lambda **settings: bench(cpus=4, cancel_grace_s=60.0, **settings)


def outcomes(made: Bench, job: Any) -> list[str | None]:
    return [attempt.outcome for attempt in made.jobs.attempts(job.id)]


def have_ended(cluster: SlurmCluster) -> bool:
    """Return True if no node runs a command of this test."""
    return not [process for process in cluster.processes() if MARK in " ".join(words_of(process))]


def words_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_job_trains_on_two_nodes_and_resumes_after_a_stop(
    made: Callable[..., Bench], two_slurm_nodes: SlurmCluster, small_document: dict[str, Any], demo_root: Path,
    tmp_path: Path, no_mlflow_settings: None,
) -> None:  # fmt: skip
    here = made(max_attempts=1, data_roots=(demo_root.parent,))
    job = begin_training(here, small_document, demo_root, tmp_path)
    number = two_slurm_nodes.run("squeue", "-h", "--states=RUNNING", "-o", "%i").strip()
    two_slurm_nodes.run("scancel", "--signal=TERM", "--batch", number)
    resume_training(here, job)
    assert outcomes(here, job) == ["stopped", "succeeded"]


def test_cancel_reaches_the_commands_of_both_nodes(made: Callable[..., Bench], two_slurm_nodes: SlurmCluster) -> None:
    here = made()
    job = here.submit(MEET, num_nodes=2)
    assert [here.file(job, f"met-{rank}").read_text() for rank in (0, 1)] == ["node1\n", "node2\n"]
    here.jobs.request_cancel(job.id)
    assert here.ended(job).status is JobStatus.CANCELLED
    log = here.file(job, "log.txt").read_text()
    assert "stopped on node1\n" in log
    assert "SLURM_" not in log
    assert here.executor.poll(here.run_dir(job).attempt(1)).exit_code == 75
    assert have_ended(two_slurm_nodes)


@pytest.mark.parametrize("number", [1, 2])
def test_loss_of_a_node_ends_the_attempt_on_both_and_the_next_one_succeeds(
    number: int, made: Callable[..., Bench], two_slurm_nodes: SlurmCluster
) -> None:
    here = made(max_attempts=2)
    job = here.submit(MEET, num_nodes=2)
    here.file(job, "met-1")
    two_slurm_nodes.kill_node(f"node{number}")
    wait_until(lambda: have_ended(two_slurm_nodes), "the end of the command on the other node")
    two_slurm_nodes.start_node(f"node{number}")
    assert here.ended(job).status is JobStatus.SUCCEEDED
    assert outcomes(here, job) == [{1: "lost", 2: "failed"}[number], "succeeded"]


def test_preempted_attempt_on_two_nodes_spends_no_retry(
    made: Callable[..., Bench], two_slurm_nodes: SlurmCluster
) -> None:
    here = made(max_attempts=1)
    job = here.submit(MEET, num_nodes=2)
    here.file(job, "met-1")
    two_slurm_nodes.run(
        "sbatch", "--partition=high", "--nodes=2", f"--cpus-per-task={NUM_CPUS}", "--output=/dev/null", "--wrap=sleep 1"
    )
    assert here.ended(job).status is JobStatus.SUCCEEDED
    assert outcomes(here, job) == ["stopped", "succeeded"]
