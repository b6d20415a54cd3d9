"""The outcome of an attempt, from its exit code, its files and its log."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.run_folder.layout import RunDir
from service.executors.base import Observation
from service.settings import Settings
from service.states import FailureKind, JobStatus
from service.store.records import Job
from service.supervisor.attempt_outcomes import AttemptOutcome, outcome_of_exit

NOW = 1000.0
JOB = Job(
    number=1, id="a" * 12, name="j", status=JobStatus.FINALIZING, stage=None, priority=0, cpus=1, gpus=0,
    timeout_s=None, retry_of=None, created_at=0.0, started_at=NOW - 100, finished_at=None, cancel_requested_at=None,
    not_before=0.0, attempt=1, failures=0, lease_owner="me", progress=None, events_offset=0, failure_kind=None,
    failure_message=None, mlflow_run_id=None, mlflow_status=None,
)  # fmt: skip


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    (tmp_path / "attempts" / "1").mkdir(parents=True)
    return RunDir.of(tmp_path)


def end(run_dir: RunDir, code: int | None, *, kind: Any = "exited", oom: bool = False, **job: Any) -> AttemptOutcome:
    settings = Settings(root=run_dir.path, max_attempts=3, retry_delay_s=5.0)
    return outcome_of_exit(replace(JOB, **job), Observation(kind, code, oom), run_dir, settings, NOW, elapsed_s=100.0)


def kind_of(outcome: AttemptOutcome) -> FailureKind | None:
    return outcome.failure[0] if outcome.failure else None


def note(run_dir: RunDir, kind: str, message: str) -> None:
    (run_dir.attempt(1) / "failure.json").write_text(json.dumps({"kind": kind, "message": message}))


def write_log(run_dir: RunDir, text: str) -> None:
    (run_dir.attempt(1) / "log.txt").write_text(text)


def test_exit_code_0_with_a_result_is_success(run_dir: RunDir) -> None:
    run_dir.result.write_text("{}")
    assert end(run_dir, 0) == AttemptOutcome("succeeded", JobStatus.SUCCEEDED)


@pytest.mark.parametrize("result", [None, "", '{"a": ', "[]"])
def test_exit_code_0_without_a_readable_result_is_an_internal_error(result: str | None, run_dir: RunDir) -> None:
    if result is not None:
        run_dir.result.write_text(result)
    assert kind_of(end(run_dir, 0, failures=2)) is FailureKind.INTERNAL


@pytest.mark.parametrize(
    ("kind", "code"), [("exited", 0), ("exited", 1), ("exited", -9), ("lost", None), ("absent", None)]
)
def test_any_outcome_counts_as_cancelled_after_a_cancel_request(kind: str, code: int | None, run_dir: RunDir) -> None:
    run_dir.result.write_text("{}")
    assert end(run_dir, code, kind=kind, cancel_requested_at=1.0) == AttemptOutcome("cancelled", JobStatus.CANCELLED)


def test_exit_code_75_queues_the_job_again_without_spending_a_retry(run_dir: RunDir) -> None:
    outcome = end(run_dir, 75, failures=2)
    assert (outcome.outcome, outcome.to, outcome.spends_retry) == ("stopped", JobStatus.QUEUED, False)


@pytest.mark.parametrize(("failures", "pause_s"), [(0, 5.0), (1, 10.0)])
def test_pause_before_another_attempt_doubles(failures: int, pause_s: float, run_dir: RunDir) -> None:
    outcome = end(run_dir, 1, failures=failures)
    assert (outcome.to, outcome.spends_retry, outcome.not_before) == (JobStatus.QUEUED, True, NOW + pause_s)
    assert f"attempt {failures + 2} of 3" in str(outcome.message)


def test_job_fails_with_its_last_attempt(run_dir: RunDir) -> None:
    outcome = end(run_dir, 1, failures=2)
    assert (outcome.outcome, outcome.to) == ("failed", JobStatus.FAILED)
    assert "the last of 3 attempts" in outcome.failure[1] if outcome.failure else False


@pytest.mark.parametrize(("code", "kind"), [(78, FailureKind.CONFIG_INVALID), (65, FailureKind.NUMERICS)])
def test_exit_codes_with_a_meaning_are_final_and_the_log_gives_details(
    code: int, kind: FailureKind, run_dir: RunDir
) -> None:
    write_log(run_dir, "much\nerror: model.neck: no\n\n")
    outcome = end(run_dir, code)
    assert (outcome.to, kind_of(outcome)) == (JobStatus.FAILED, kind)
    assert "error: model.neck: no" in str(outcome.message)


@pytest.mark.parametrize("kind", ["config_invalid", "data_invalid", "out_of_memory", "numerics"])
def test_reason_in_failure_json_is_used(kind: str, run_dir: RunDir) -> None:
    note(run_dir, kind, "first\nsecond")
    assert end(run_dir, 1).failure == (FailureKind(kind), "first; second")


@pytest.mark.parametrize("noted", ["", "[]", '{"kind": "bad luck", "message": ""}', '{"kind": "numerics"}'])
def test_unreadable_failure_json_is_ignored(noted: str, run_dir: RunDir) -> None:
    (run_dir.attempt(1) / "failure.json").write_text(noted)
    assert kind_of(end(run_dir, 78)) is FailureKind.CONFIG_INVALID


def test_kill_by_the_kernel_is_reported_as_out_of_memory(run_dir: RunDir) -> None:
    note(run_dir, "internal", "RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed.")
    outcome = end(run_dir, 1, oom=True)
    assert (outcome.to, kind_of(outcome)) == (JobStatus.FAILED, FailureKind.OUT_OF_MEMORY)


def test_full_disk_is_recognized_in_the_log(run_dir: RunDir) -> None:
    write_log(run_dir, "OSError: [Errno 28] No space left on device: 'last.ckpt'\nbye\n")
    outcome = end(run_dir, 1, failures=2)
    assert kind_of(outcome) is FailureKind.DISK_FULL
    assert "last.ckpt" in str(outcome.message)
    assert end(run_dir, None, kind="lost").to is JobStatus.QUEUED


@pytest.mark.parametrize(
    ("code", "kind", "word"),
    [(-9, FailureKind.KILLED, "SIGKILL"), (-15, FailureKind.KILLED, "SIGTERM"), (-11, FailureKind.INTERNAL, "SIGSEGV")],
)
def test_signals_are_reported_by_name(code: int, kind: FailureKind, word: str, run_dir: RunDir) -> None:
    outcome = end(run_dir, code, failures=2)
    assert kind_of(outcome) is kind
    assert word in str(outcome.message)


def test_removal_of_the_folder_of_a_running_attempt_is_reported(run_dir: RunDir) -> None:
    assert "its folder was removed" in str(end(run_dir, None, kind="absent").message)


def test_preempted_attempt_spends_no_retry(run_dir: RunDir) -> None:
    seen = Observation("exited", -9, was_preempted=True)
    settings = Settings(root=run_dir.path, max_attempts=1)
    outcome = outcome_of_exit(JOB, seen, run_dir, settings, NOW, elapsed_s=100.0)
    assert (outcome.outcome, outcome.to, outcome.spends_retry) == ("stopped", JobStatus.QUEUED, False)
    late = outcome_of_exit(replace(JOB, timeout_s=1.0), seen, run_dir, settings, NOW, elapsed_s=100.0)
    assert kind_of(late) is FailureKind.TIMEOUT


def test_reason_of_the_system_explains_a_lost_attempt(run_dir: RunDir) -> None:
    settings = Settings(root=run_dir.path, max_attempts=1)
    seen = Observation("lost", reason="Slurm has ended its job with the state NODE_FAIL")
    outcome = outcome_of_exit(JOB, seen, run_dir, settings, NOW, elapsed_s=100.0)
    assert outcome.failure is not None
    assert (
        outcome.failure[1] == "the attempt died without an exit code: Slurm has ended its job with the state NODE_FAIL"
    )


def test_lost_attempt_is_retried(run_dir: RunDir) -> None:
    outcome = end(run_dir, None, kind="lost")
    assert (outcome.outcome, outcome.to, outcome.spends_retry) == ("lost", JobStatus.QUEUED, True)
    assert kind_of(end(run_dir, None, kind="lost", failures=2)) is FailureKind.KILLED


@pytest.mark.parametrize("code", [75, -9, -15, 1])
def test_exit_after_the_time_limit_is_a_timeout(code: int, run_dir: RunDir) -> None:
    assert kind_of(end(run_dir, code, timeout_s=100.0)) is FailureKind.TIMEOUT
    assert kind_of(end(run_dir, code, timeout_s=100.1)) is not FailureKind.TIMEOUT


def test_success_or_a_final_reason_takes_precedence_over_the_timeout(run_dir: RunDir) -> None:
    assert kind_of(end(run_dir, 65, timeout_s=1.0)) is FailureKind.NUMERICS
    run_dir.result.write_text("{}")
    assert end(run_dir, 0, timeout_s=1.0).to is JobStatus.SUCCEEDED


def test_long_messages_are_truncated(run_dir: RunDir) -> None:
    note(run_dir, "numerics", "x" * 5000)
    assert len(str(end(run_dir, 65).message)) == 1000


def test_reason_of_the_trainer_has_no_characters_that_databases_and_terminals_refuse(run_dir: RunDir) -> None:
    note(run_dir, "data_invalid", "a\0.png:\x1b[2J damaged")
    assert end(run_dir, 78).failure == (FailureKind.DATA_INVALID, "a\\x00.png:\\x1b[2J damaged")
