"""Jobs whose attempts run in a real Slurm cluster, from the queue to their end."""

import re
from collections.abc import Callable

import pytest

from service.executors.slurm import commands
from service.executors.slurm.executor import SlurmExecutor
from service.settings import Settings
from service.states import FailureKind, JobStatus
from service.store.records import Job
from tests.service.supervisor.conftest import Bench
from tests.slurm import NUM_CPUS, SlurmCluster

MakeBench = Callable[..., Bench]

STOPPABLE = "trap 'exit 75' TERM; echo > started; while :; do sleep 0.05; done"
RESUMED = '[ "$(basename $PWD)" = 2 ] && echo "{}" > ../../result.json && exit 0; '
"""A second attempt succeeds."""


@pytest.fixture
def make(slurm: SlurmCluster, bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> MakeBench:
    def executor(cpus: int, gpus: int) -> SlurmExecutor:
        return SlurmExecutor(Settings(executor="slurm", cpus=cpus, gpus=gpus))

    monkeypatch.setattr("tests.service.supervisor.conftest.LocalExecutor", executor)
    return bench


def outcomes(made: Bench, job: Job) -> list[str | None]:
    return [attempt.outcome for attempt in made.jobs.attempts(job.id)]


@pytest.mark.integration
def test_job_runs_in_slurm_to_its_end(make: MakeBench, slurm: SlurmCluster) -> None:
    made = make()
    job = made.submit(f"echo hello; env; {made.SUCCEED}")
    assert made.ended(job).status is JobStatus.SUCCEEDED
    log = made.file(job, "log.txt").read_text()
    assert log.startswith("hello\n")
    assert "SLURM_" not in log
    assert f"{job.id}-1" in slurm.run("squeue", "-h", "--states=all", "-o", "%j")


@pytest.mark.integration
def test_killed_supervisor_leaves_the_attempt_to_the_next_one_which_cancels_it(
    make: MakeBench, slurm: SlurmCluster
) -> None:
    made = make()
    job = made.submit(made.at_term("exit 75"))
    made.file(job, "ready")
    made.new_supervisor()
    made.supervisor.tick()
    made.jobs.request_cancel(job.id)
    assert made.ended(job).status is JobStatus.CANCELLED
    assert outcomes(made, job) == ["cancelled"]
    assert made.executor.poll(made.run_dir(job).attempt(1)).exit_code == 75


@pytest.mark.reliability
def test_supervisor_killed_right_after_its_submission_makes_no_second_job(make: MakeBench, slurm: SlurmCluster) -> None:
    made = make()
    job = made.submit(f"sleep 1; echo ran; {made.SUCCEED}")
    made.until(job, JobStatus.STARTING)
    for _ in range(5):
        made.new_supervisor()
        made.supervisor.tick()
    assert made.ended(job).status is JobStatus.SUCCEEDED
    assert made.file(job, "log.txt").read_text() == "ran\n"
    assert slurm.run("squeue", "-h", "--states=all", "-o", "%j").count(f"{job.id}-1") == 1


@pytest.mark.reliability
def test_preempted_attempt_writes_its_checkpoint_and_spends_no_retry(make: MakeBench, slurm: SlurmCluster) -> None:
    made = make(max_attempts=1)
    job = made.submit(RESUMED + STOPPABLE)
    made.file(job, "started")
    slurm.run("sbatch", "--partition=high", f"--cpus-per-task={NUM_CPUS}", "--output=/dev/null", "--wrap=sleep 1")
    assert made.ended(job).status is JobStatus.SUCCEEDED
    assert outcomes(made, job) == ["stopped", "succeeded"]
    assert made.jobs.get(job.id).failures == 0


@pytest.mark.reliability
def test_preempted_attempt_that_writes_no_checkpoint_spends_no_retry_either(
    make: MakeBench, slurm: SlurmCluster
) -> None:
    made = make(max_attempts=1)
    job = made.submit(RESUMED + "echo > started; exec sleep 600")
    made.file(job, "started")
    slurm.run("sbatch", "--partition=high", f"--cpus-per-task={NUM_CPUS}", "--output=/dev/null", "--wrap=sleep 1")
    assert made.ended(job).status is JobStatus.SUCCEEDED
    assert outcomes(made, job) == ["stopped", "succeeded"]


@pytest.mark.reliability
def test_attempt_that_waits_in_slurm_is_cancelled_without_running(make: MakeBench, slurm: SlurmCluster) -> None:
    made = make()
    slurm.run("sbatch", "--job-name=other", "--partition=high", f"--cpus-per-task={NUM_CPUS}", "--wrap=sleep 600",
              "--output=/dev/null")  # fmt: skip
    try:
        job = made.submit("echo > started")
        made.until(job, JobStatus.STARTING)
        for _ in range(100):
            made.supervisor.tick()
        assert made.jobs.get(job.id).status is JobStatus.STARTING
        made.jobs.request_cancel(job.id)
        assert made.ended(job).status is JobStatus.CANCELLED
        assert not (made.run_dir(job).attempt(1) / "started").exists()
    finally:
        slurm.run("scancel", "--name=other")


@pytest.mark.reliability
def test_silent_controller_ends_no_attempt(
    make: MakeBench, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(max_attempts=1)
    job = made.submit(made.at_term("exit 75"))
    made.file(job, "ready")
    slurm.stop_controller()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(commands, "TIMEOUT_S", 1.0)
            made.new_supervisor()
        for _ in range(20):
            made.supervisor.tick()
        assert made.jobs.get(job.id).status is JobStatus.RUNNING
    finally:
        slurm.start_controller()
    made.new_supervisor()
    made.jobs.request_cancel(job.id)
    assert made.ended(job).status is JobStatus.CANCELLED
    assert made.jobs.attempts(job.id)[0].exit_code == 75


@pytest.mark.reliability
def test_attempt_on_a_node_that_dies_is_lost_and_runs_again(make: MakeBench, slurm: SlurmCluster) -> None:
    made = make(max_attempts=2)
    job = made.submit(RESUMED + STOPPABLE)
    made.file(job, "started")
    slurm.kill_node()
    slurm.start_node()
    assert made.ended(job).status is JobStatus.SUCCEEDED
    assert outcomes(made, job) == ["lost", "succeeded"]


@pytest.mark.reliability
def test_command_of_a_killed_shim_dies_and_its_attempt_is_lost(make: MakeBench, slurm: SlurmCluster) -> None:
    made = make(max_attempts=1)
    job = made.submit("echo > started; exec sleep 613")
    made.file(job, "started")
    for process in slurm.processes():
        if "service.shim" in process.cmdline():
            process.kill()
    ended = made.ended(job)
    assert (ended.status, ended.failure_kind) == (JobStatus.FAILED, FailureKind.KILLED)
    assert ended.failure_message is not None
    assert "Slurm has ended its job with the state FAILED" in ended.failure_message
    assert not any("613" in process.cmdline() for process in slurm.processes())


@pytest.mark.reliability
def test_jobs_on_two_slots_never_overlap_and_keep_their_order(make: MakeBench, slurm: SlurmCluster) -> None:
    made = make()
    journal = made.settings.root / "journal"
    script = f"echo + $PWD >> {journal}; sleep 0.2; echo - $PWD >> {journal}; {made.SUCCEED}"
    jobs = [made.submit(script) for _ in range(30)]
    for job in jobs:
        assert made.ended(job).status is JobStatus.SUCCEEDED
    active = 0
    lines = journal.read_text().splitlines()
    for line in lines:
        active += 1 if line.startswith("+") else -1
        assert active <= NUM_CPUS
    started = [re.findall(r"jobs/([^/]+)/", line)[0] for line in lines if line.startswith("+")]
    # Two that start together may write their lines in any order.
    assert all(abs(started.index(job.id) - number) <= 1 for number, job in enumerate(jobs))
