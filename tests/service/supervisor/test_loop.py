"""Jobs from the queue to their end, with shell scripts as trainers."""

import json
import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from service.executors.base import AttemptSpec
from service.states import JobStatus
from service.store.errors import LeaseLost
from service.supervisor import job_watcher

MakeBench = Callable[..., Any]

PROGRESS = '{"time": 1.5, "kind": "progress", "epoch": 2, "step": 7, "data": {"batches": 9}}'
STAGE = '{"time": 1.0, "kind": "stage", "epoch": 0, "step": 0, "data": {"stage": "training"}}'


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def exit_of(it: Any, job: Any) -> None:
    """Wait for the end of the first attempt without a round of a supervisor."""
    path = it.run_dir(job).attempt(1) / "exit.json"
    it.wait_until(path.exists)


def test_job_passes_every_state_with_its_events_in_between(bench: MakeBench) -> None:
    it = bench()
    job = it.submit(f"echo '{STAGE}' >> ../../events.jsonl; echo '{PROGRESS}' >> ../../events.jsonl; {it.SUCCEED}")
    ended = it.ended(job)
    assert ended.status is JobStatus.SUCCEEDED
    assert it.statuses(job) == ["queued", "starting", "running", "finalizing", "succeeded"]
    kinds = [event.kind for event in it.events(job)]
    assert [kind for kind in kinds if kind != "status"] == ["stage", "progress"]
    assert kinds[-1] == "status"
    assert ended.progress == {"batches": 9, "epoch": 2, "step": 7}
    assert (ended.stage, ended.failure_kind, ended.lease_owner) == (None, None, None)
    (attempt,) = it.jobs.attempts(job.id)
    assert (attempt.outcome, attempt.exit_code) == ("succeeded", 0)
    assert it.run_dir(job).job_yaml.read_text().startswith("name: j\n")


def test_progress_is_visible_while_the_job_runs(bench: MakeBench) -> None:
    it = bench()
    job = it.submit(f"echo '{STAGE}{os.linesep}{PROGRESS}' >> ../../events.jsonl; {it.at_term('exit 1')}")
    it.file(job, "ready")
    it.until(job, JobStatus.RUNNING)
    it.supervisor.tick()
    running = it.jobs.get(job.id)
    assert (running.stage, running.progress["step"]) == ("training", 7)


def test_job_that_exits_with_0_but_without_a_result_has_failed(bench: MakeBench) -> None:
    it = bench(max_attempts=1)
    ended = it.ended(it.submit("true"))
    assert (ended.status, ended.failure_kind) == (JobStatus.FAILED, "internal")
    assert "result.json" in ended.failure_message


def test_failed_attempt_is_followed_by_others_until_one_succeeds(bench: MakeBench) -> None:
    it = bench()
    job = it.submit(f'case "$PWD" in */3) {it.SUCCEED};; *) exit 1;; esac')
    assert it.ended(job).status is JobStatus.SUCCEEDED
    assert [attempt.outcome for attempt in it.jobs.attempts(job.id)] == ["failed", "failed", "succeeded"]


def test_job_fails_when_all_its_attempts_have(bench: MakeBench) -> None:
    it = bench(max_attempts=2)
    job = it.submit("echo no luck; exit 3")
    ended = it.ended(job)
    assert (ended.status, ended.attempt, ended.failure_kind) == (JobStatus.FAILED, 2, "internal")
    assert "no luck" in ended.failure_message


def test_next_attempt_waits_for_its_time(bench: MakeBench) -> None:
    it = bench(retry_delay_s=1000)
    job = it.submit("exit 1")
    it.wait_until(lambda: it.jobs.get(job.id).failures, it.supervisor.tick)
    waiting = it.until(job, JobStatus.QUEUED)
    assert 900 < waiting.not_before - time.time() < 1001
    it.supervisor.tick()
    assert it.jobs.get(job.id).status is JobStatus.QUEUED


def test_stop_with_a_checkpoint_spends_no_attempt(bench: MakeBench) -> None:
    it = bench(max_attempts=1)
    job = it.submit(f'case "$PWD" in */4) {it.SUCCEED};; *) exit 75;; esac')
    ended = it.ended(job)
    assert (ended.status, ended.attempt, ended.failures) == (JobStatus.SUCCEEDED, 4, 0)
    assert [attempt.outcome for attempt in it.jobs.attempts(job.id)][:3] == ["stopped"] * 3


def test_mistake_in_the_document_is_reported_and_not_retried(bench: MakeBench) -> None:
    it = bench()
    noted = json.dumps({"kind": "data_invalid", "message": "a.json: is not JSON"})
    ended = it.ended(it.submit(f"echo '{noted}' > failure.json; exit 78"))
    assert (ended.status, ended.attempt) == (JobStatus.FAILED, 1)
    assert (ended.failure_kind, ended.failure_message) == ("data_invalid", "a.json: is not JSON")


@pytest.mark.parametrize("then", ["exit 0", "exit 75", "exit 1"])
def test_cancelled_job_is_cancelled_no_matter_how_its_attempt_ends(then: str, bench: MakeBench) -> None:
    it = bench(cancel_grace_s=20)
    job = it.submit(f"{it.SUCCEED}; {it.at_term(then)}")
    pid = int(it.file(job, "ready").read_text())
    it.jobs.request_cancel(job.id)
    assert it.ended(job).status is JobStatus.CANCELLED
    assert it.statuses(job)[-2:] == ["cancelling", "cancelled"]
    assert is_gone(pid)
    assert it.jobs.attempts(job.id)[0].outcome == "cancelled"


def test_trainer_that_ignores_sigterm_is_killed_after_its_grace_period(bench: MakeBench) -> None:
    it = bench(cancel_grace_s=0.2)
    job = it.submit(it.at_term(""))
    pid = int(it.file(job, "ready").read_text())
    it.jobs.request_cancel(job.id)
    assert it.ended(job).status is JobStatus.CANCELLED
    assert is_gone(pid)


def test_frozen_shim_is_killed_together_with_its_attempt(bench: MakeBench) -> None:
    it = bench(cancel_grace_s=0.1)
    job = it.submit(it.at_term("exit 0"))
    pid = int(it.file(job, "ready").read_text())
    shim = json.loads((it.run_dir(job).attempt(1) / "run.json").read_text())["pid"]
    os.kill(shim, signal.SIGSTOP)
    it.jobs.request_cancel(job.id)
    assert it.ended(job).status is JobStatus.CANCELLED
    assert is_gone(pid)
    assert is_gone(shim)


def test_cancel_request_takes_effect_until_the_end_is_recorded(bench: MakeBench) -> None:
    it = bench()
    job = it.submit(f"{it.SUCCEED}; {it.at_term('exit 0')}")
    pid = int(it.file(job, "ready").read_text())
    os.kill(pid, signal.SIGTERM)
    exit_of(it, job)
    it.jobs.request_cancel(job.id)
    assert it.ended(job).status is JobStatus.CANCELLED


def test_job_cancelled_while_it_starts_leaves_no_process(bench: MakeBench) -> None:
    it = bench()
    job = it.submit(it.at_term("exit 0"))
    while it.jobs.get(job.id).status is JobStatus.QUEUED:
        it.supervisor.tick()
    it.jobs.request_cancel(job.id)
    assert it.ended(job).status is JobStatus.CANCELLED
    ready = it.run_dir(job).attempt(1) / "ready"
    assert not ready.exists() or is_gone(int(ready.read_text()))


def test_trainer_dies_with_its_shim_and_another_attempt_follows(bench: MakeBench) -> None:
    it = bench()
    job = it.submit(f'case "$PWD" in */2) {it.SUCCEED};; *) {it.at_term("exit 0")};; esac')
    pid = int(it.file(job, "ready").read_text())
    os.kill(json.loads((it.run_dir(job).attempt(1) / "run.json").read_text())["pid"], signal.SIGKILL)
    assert it.ended(job).status is JobStatus.SUCCEEDED
    assert is_gone(pid)
    assert [attempt.outcome for attempt in it.jobs.attempts(job.id)] == ["lost", "succeeded"]
    assert it.jobs.get(job.id).failures == 1


def test_killed_trainer_is_reported_as_killed(bench: MakeBench) -> None:
    it = bench(max_attempts=1)
    job = it.submit(it.at_term("exit 0"))
    os.kill(int(it.file(job, "ready").read_text()), signal.SIGKILL)
    ended = it.ended(job)
    assert (ended.failure_kind, it.jobs.attempts(job.id)[0].exit_code) == ("killed", -9)
    assert "SIGKILL" in ended.failure_message


def test_job_over_its_time_limit_fails_even_if_it_stops_properly(bench: MakeBench) -> None:
    it = bench()
    job = it.submit(it.at_term("exit 75"), timeout_s=0.5)
    ended = it.ended(job)
    assert (ended.status, ended.failure_kind, ended.attempt) == (JobStatus.FAILED, "timeout", 1)
    assert "0.5 s" in ended.failure_message


def test_jobs_on_one_core_run_one_after_the_other_by_priority(bench: MakeBench) -> None:
    it = bench(cpus=1)
    note = "echo begin $(basename $(dirname $(dirname $PWD))) >> ../../../../order"
    script = f"{note}; sleep 0.05; {note.replace('begin', 'end')}; {it.SUCCEED}"
    jobs = [it.submit(script, priority=priority) for priority in (0, 5, 0)]
    for job in jobs:
        assert it.ended(job).status is JobStatus.SUCCEEDED
    first, second, third = jobs[1].id, jobs[0].id, jobs[2].id
    lines = (it.settings.root / "order").read_text().splitlines()
    assert lines == [f"{what} {job_id}" for job_id in (first, second, third) for what in ("begin", "end")]


def test_next_supervisor_adopts_a_running_attempt(bench: MakeBench) -> None:
    it = bench()
    job = it.submit(f"{it.SUCCEED}; {it.at_term('exit 0')}")
    pid = int(it.file(job, "ready").read_text())
    before, old = it.jobs.get(job.id), it.leased
    it.new_supervisor()
    with pytest.raises(LeaseLost):
        old.move(before, JobStatus.FINALIZING)
    it.supervisor.tick()
    assert it.jobs.get(job.id).attempt == 1
    assert not is_gone(pid)
    os.kill(pid, signal.SIGTERM)
    assert it.ended(job).status is JobStatus.SUCCEEDED
    assert len(it.jobs.attempts(job.id)) == 1


def test_claimed_job_that_was_not_started_is_started_by_the_next_supervisor(bench: MakeBench) -> None:
    it = bench()
    job = it.submit(it.SUCCEED)
    it.leased.claim(job.id, ())
    it.new_supervisor()
    assert it.ended(job).status is JobStatus.SUCCEEDED
    assert len(it.jobs.attempts(job.id)) == 1


def test_attempt_that_ended_without_a_supervisor_is_finished_by_the_next_one(bench: MakeBench) -> None:
    it = bench()
    job = it.submit(it.SUCCEED)
    while it.jobs.get(job.id).status is JobStatus.QUEUED:
        it.supervisor.tick()
    exit_of(it, job)
    it.new_supervisor()
    assert it.ended(job).status is JobStatus.SUCCEEDED
    assert len(it.jobs.attempts(job.id)) == 1


def test_orphaned_attempt_is_stopped(bench: MakeBench) -> None:
    it = bench()
    folder = it.settings.run_dir("0" * 12) / "attempts" / "1"
    script = it.at_term("exit 0")
    it.executor.start(AttemptSpec(folder, ("/bin/sh", "-c", script), dict(os.environ), folder, 5.0, {"cpus": 1}))
    it.wait_until(lambda: (folder / "ready").exists() and (folder / "ready").read_text())
    it.new_supervisor()
    assert is_gone(int((folder / "ready").read_text()))


def test_error_of_one_job_is_logged_and_does_not_affect_others(
    bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    it = bench(max_attempts=1)
    bad = it.submit(it.SUCCEED, tracking={"experiment": 5})
    good = it.submit(it.SUCCEED)
    with caplog.at_level(logging.INFO):
        assert it.ended(good).status is JobStatus.SUCCEEDED
        ended = it.ended(bad)
    assert (ended.status, ended.failure_kind) == (JobStatus.FAILED, "internal")
    assert "experiment" in ended.failure_message
    logged = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert 1 <= len(logged) <= 5
    assert all(bad.id in line and "\n" not in line for line in logged)


def test_run_folder_that_cannot_be_created_fails_only_its_attempt(bench: MakeBench) -> None:
    it = bench(max_attempts=1)
    job = it.submit(it.SUCCEED)
    it.settings.jobs_dir.mkdir(exist_ok=True)
    it.run_dir(job).path.write_text("in the way")
    ended = it.ended(job)
    assert (ended.status, ended.failure_kind) == (JobStatus.FAILED, "internal")
    assert "could not be started" in ended.failure_message


def test_attempt_without_a_process_is_started_again_and_finally_given_up(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_watcher, "START_AGAIN_S", 0.1)
    it = bench(max_attempts=1)
    # No Python interpreter starts with this.
    monkeypatch.setenv("PYTHONHOME", "nowhere")
    job = it.submit(it.SUCCEED)
    log = it.run_dir(job).attempt(1) / "log.txt"
    it.wait_until(lambda: log.exists() and log.read_text().count("Fatal Python error") > 1, it.supervisor.tick)
    monkeypatch.setattr(job_watcher, "GIVE_UP_START_S", 0.5)
    ended = it.ended(job)
    assert (ended.status, ended.failure_kind) == (JobStatus.FAILED, "internal")
    assert "no process of the attempt appeared within 0.5 s" in ended.failure_message


def test_full_disk_is_reported_as_the_reason_for_the_failure(bench: MakeBench) -> None:
    it = bench(max_attempts=1)
    ended = it.ended(it.submit("cat /dev/zero > /dev/full"))
    assert ended.failure_kind == "disk_full"
    assert "No space left" in ended.failure_message
