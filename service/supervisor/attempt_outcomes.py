"""What the end of an attempt means: for the attempt, for its job, and in one sentence.

cancel was asked for    cancelled, whatever else
0 and a result          succeeded
75                      queued again, no retry spent
anything else           failed: for good where another attempt would only meet the same (`FINAL_FAILURES`), or
                        where all are used up; else queued again after a pause
"""

import json
import signal
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import ExitCode
from pipelines.run_folder.attempt_files import AttemptFailure
from pipelines.run_folder.layout import AttemptDir, RunDir
from pipelines.run_folder.log_text import log_tail
from service.executors.base import Observation
from service.settings import Settings
from service.states import FINAL_FAILURES, FailureKind, JobStatus
from service.store.records import Job, Outcome

KIND_OF_CODE = {ExitCode.NUMERICS: FailureKind.NUMERICS, ExitCode.INVALID: FailureKind.CONFIG_INVALID}
FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
NO_SPACE = "No space left on device"
TAIL_BYTES = 8192
MAX_SENTENCE = 1000

FailureReason = tuple[FailureKind, str]


@dataclass(frozen=True)
class AttemptOutcome:
    """What becomes of an attempt, and of its job.

    Attributes:
        outcome: of the attempt.
        to: what the job is next: succeeded, failed, cancelled or queued.
        message: one sentence for people; None where there is nothing to say.
        failure: why the job has failed, where it has.
        spends_retry: whether the attempt counts, for a job that is queued again.
        not_before: when the next attempt may start.
    """

    outcome: Outcome
    to: JobStatus
    message: str | None = None
    failure: FailureReason | None = None
    spends_retry: bool = False
    not_before: float = 0.0


def outcome_of_exit(job: Job, seen: Observation, run_dir: RunDir, settings: Settings, now: float) -> AttemptOutcome:
    """Return what the end of the job's current attempt means, be it `exited`, `lost` or (never begun) `absent`."""
    if job.cancel_requested_at is not None:
        return AttemptOutcome("cancelled", JobStatus.CANCELLED)
    if seen.exit_code == ExitCode.DONE and _has_result(run_dir):
        return AttemptOutcome("succeeded", JobStatus.SUCCEEDED)
    if seen.exit_code == ExitCode.STOPPED and not is_over_time(job, now):
        message = "stopped with a checkpoint written; it goes on from there"
        return AttemptOutcome("stopped", JobStatus.QUEUED, message, not_before=now + settings.retry_delay_s)
    failure = _failure(job, seen, run_dir.attempt(job.attempt), now)
    return outcome_of_failure(job, failure, settings, now, outcome="lost" if seen.kind == "lost" else "failed")


def outcome_of_failure(
    job: Job, failure: FailureReason, settings: Settings, now: float, outcome: Outcome = "failed"
) -> AttemptOutcome:
    """Return what becomes of a job whose attempt has failed: another attempt, or the end."""
    kind, sentence = failure
    if kind in FINAL_FAILURES:
        return AttemptOutcome(outcome, JobStatus.FAILED, sentence, failure)
    spent = job.failures + 1
    if spent >= settings.max_attempts:
        tried = f"{sentence} (the last of {spent} attempts)" if spent > 1 else sentence
        return AttemptOutcome(outcome, JobStatus.FAILED, sentence, (kind, tried))
    pause_s = settings.retry_delay_s * 2**job.failures
    message = f"{sentence}; attempt {spent + 1} of {settings.max_attempts} in {pause_s:g} s"
    return AttemptOutcome(outcome, JobStatus.QUEUED, message, spends_retry=True, not_before=now + pause_s)


def is_over_time(job: Job, now: float) -> bool:
    """Whether the job has used up its time, which runs from its first attempt's start."""
    return job.timeout_s is not None and job.started_at is not None and now >= job.started_at + job.timeout_s


def _failure(job: Job, seen: Observation, folder: Path, now: float) -> FailureReason:
    kind, sentence = _why(seen, folder)
    if kind not in FINAL_FAILURES and is_over_time(job, now):
        return FailureKind.TIMEOUT, f"the job has used up its {job.timeout_s:g} s (resources.timeout_s)"
    return kind, sentence


def _why(seen: Observation, folder: Path) -> FailureReason:
    noted = _noted(folder)
    if noted is not None and noted[0] != FailureKind.INTERNAL:
        return noted
    if seen.ran_out_of_memory:
        return FailureKind.OUT_OF_MEMORY, "the machine's memory ran out, and the kernel killed the trainer"
    lines = _last_lines(folder)
    if any(NO_SPACE in line for line in lines):
        return FailureKind.DISK_FULL, f"the disk is full: {_last(lines, NO_SPACE)}"
    if noted is not None:
        return noted
    if seen.kind == "lost":
        return (
            FailureKind.KILLED,
            "the attempt died without a word: it was killed, the machine was restarted, or the disk had no room left",
        )
    code = seen.exit_code
    if code is None:
        return FailureKind.INTERNAL, "the attempt's run.json is gone: its folder was removed while it ran"
    if code == ExitCode.DONE:
        return FailureKind.INTERNAL, "the trainer ended with 0 and left no result.json that can be read"
    said = f"; its last words: {lines[-1]}" if lines else ""
    if code < 0:
        kind = FailureKind.KILLED if -code in FROM_OUTSIDE else FailureKind.INTERNAL
        return kind, _cut(f"the trainer was ended by {_signal_name(-code)}{said}")
    return KIND_OF_CODE.get(code, FailureKind.INTERNAL), _cut(f"the trainer ended with {code}{said}")


def _has_result(run_dir: RunDir) -> bool:
    try:
        return isinstance(json.loads(run_dir.result.read_text("utf-8")), dict)
    except (OSError, ValueError):
        return False


def _noted(folder: Path) -> FailureReason | None:
    """Return what the trainer itself says in failure.json."""
    try:
        noted = AttemptFailure.read(AttemptDir(folder).failure_json)
        sentence = "; ".join(noted.message.splitlines())
        return FailureKind(noted.kind), _cut(sentence or "the trainer does not say why")
    except (OSError, ValueError):
        return None


def _last_lines(folder: Path) -> list[str]:
    """Return the last lines of an attempt's log that are not blank."""
    lines = (line.strip() for line in log_tail(AttemptDir(folder).log, TAIL_BYTES))
    return [line for line in lines if line]


def _last(lines: list[str], part: str) -> str:
    return _cut([line for line in lines if part in line][-1])


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SENTENCE else text[: MAX_SENTENCE - 3] + "..."
