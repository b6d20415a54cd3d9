"""The outcome of an attempt that has ended, and the next status of its job.

cancel requested    cancelled, no matter how the attempt ended
0 and a result      succeeded
75, or preempted    queued again, without spending a retry
anything else       failed, if another attempt would fail in the same way (`FINAL_FAILURES`) or none remains;
                    otherwise queued again after a pause
"""

import signal
from dataclasses import dataclass
from pathlib import Path

from pipelines.base.errors import ExitCode
from pipelines.base.printable import printable
from pipelines.base.signals import signal_name
from pipelines.run_folder.attempt_files import AttemptFailure
from pipelines.run_folder.layout import AttemptDir, RunDir
from pipelines.run_folder.log_text import log_tail
from service.executors.base import Observation
from service.jobs.kinds.registry import job_kind
from service.settings import Settings
from service.states import FINAL_FAILURES, FailureKind, JobStatus
from service.store.records import Job, Outcome

KIND_OF_CODE: dict[int, FailureKind] = {
    ExitCode.NUMERICS: FailureKind.NUMERICS,
    ExitCode.INVALID: FailureKind.CONFIG_INVALID,
}
EXTERNAL_SIGNALS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
NO_SPACE = "No space left on device"
TAIL_BYTES = 8192
MAX_SENTENCE = 1000

FailureReason = tuple[FailureKind, str]


@dataclass(frozen=True)
class AttemptOutcome:
    """The outcome of an attempt, and its effect on the job.

    Attributes:
        outcome: the outcome that is recorded with the attempt.
        to: the next status of the job: succeeded, failed, cancelled or queued.
        message: a sentence for users; None if the outcome needs no explanation.
        failure: the reason why the job has failed; None if it has not.
        spends_retry: True if the attempt counts against the limit, for a job that is queued again.
        not_before: earliest start of the next attempt, in seconds since 1970.
    """

    outcome: Outcome
    to: JobStatus
    message: str | None = None
    failure: FailureReason | None = None
    spends_retry: bool = False
    not_before: float = 0.0


def outcome_of_exit(
    job: Job, seen: Observation, run_dir: RunDir, settings: Settings, now: float, elapsed_s: float
) -> AttemptOutcome:
    """Return the outcome of the job's current attempt, which is `exited`, `lost` or, if it never started, `absent`.

    Args:
        now: seconds since 1970.
        elapsed_s: seconds since the start of the first attempt.
    """
    if job.cancel_requested_at is not None:
        return AttemptOutcome("cancelled", JobStatus.CANCELLED)
    if seen.exit_code == ExitCode.DONE and job_kind(job.kind).has_result(run_dir):
        return AttemptOutcome("succeeded", JobStatus.SUCCEEDED)
    if seen.exit_code == ExitCode.STOPPED and not is_over_time(job, elapsed_s):
        message = "stopped after writing a checkpoint; the next attempt resumes from it"
        return AttemptOutcome("stopped", JobStatus.QUEUED, message, not_before=now + settings.retry_delay_s)
    if seen.was_preempted and not is_over_time(job, elapsed_s):
        message = "preempted by the cluster; the next attempt resumes from the last checkpoint"
        return AttemptOutcome("stopped", JobStatus.QUEUED, message, not_before=now + settings.retry_delay_s)
    failure = _failure(job, seen, run_dir.attempt(job.attempt), elapsed_s)
    return outcome_of_failure(job, failure, settings, now, outcome="lost" if seen.kind == "lost" else "failed")


def outcome_of_failure(
    job: Job, failure: FailureReason, settings: Settings, now: float, outcome: Outcome = "failed"
) -> AttemptOutcome:
    """Return the outcome of a failed attempt: another attempt follows, or the job has failed."""
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


def is_over_time(job: Job, elapsed_s: float) -> bool:
    """Return True if the job has used up its time, which starts with its first attempt."""
    return job.timeout_s is not None and elapsed_s >= job.timeout_s


def _failure(job: Job, seen: Observation, folder: Path, elapsed_s: float) -> FailureReason:
    kind, sentence = _cause(seen, folder)
    if kind not in FINAL_FAILURES and is_over_time(job, elapsed_s):
        return FailureKind.TIMEOUT, f"the job has used up its {job.timeout_s:g} s (resources.timeout_s)"
    return kind, sentence


def _cause(seen: Observation, folder: Path) -> FailureReason:
    reported = _reported(folder)
    if reported is not None and reported[0] != FailureKind.INTERNAL:
        return reported
    if seen.ran_out_of_memory:
        return FailureKind.OUT_OF_MEMORY, "the machine's memory ran out, and the kernel killed the attempt"
    lines = _last_lines(folder)
    if any(NO_SPACE in line for line in lines):
        return FailureKind.DISK_FULL, f"the disk is full: {_last(lines, NO_SPACE)}"
    if reported is not None:
        return reported
    if seen.kind == "lost":
        cause = seen.reason or "it was killed, the machine was restarted, or the disk was full"
        return FailureKind.KILLED, _cut(f"the attempt died without an exit code: {cause}")
    code = seen.exit_code
    if code is None:
        return FailureKind.INTERNAL, "the attempt's run.json is missing: its folder was removed while it ran"
    if code == ExitCode.DONE:
        return FailureKind.INTERNAL, "the attempt exited with code 0 but wrote no valid result.json"
    last_line = f"; last line of its log: {lines[-1]}" if lines else ""
    if code < 0:
        kind = FailureKind.KILLED if -code in EXTERNAL_SIGNALS else FailureKind.INTERNAL
        return kind, _cut(f"the attempt was terminated by {signal_name(-code)}{last_line}")
    return KIND_OF_CODE.get(code, FailureKind.INTERNAL), _cut(f"the attempt exited with code {code}{last_line}")


def _reported(folder: Path) -> FailureReason | None:
    """Return the reason that the trainer has written to failure.json."""
    try:
        reported = AttemptFailure.read(AttemptDir(folder).failure_json)
        # PostgreSQL stores no zero bytes, and terminals would act on control characters.
        sentence = "; ".join(map(printable, reported.message.splitlines()))
        return FailureKind(reported.kind), _cut(sentence or "the attempt gave no reason")
    except (OSError, ValueError):
        return None


def _last_lines(folder: Path) -> list[str]:
    """Return the last lines of an attempt's log that are not blank."""
    lines = (line.strip() for line in log_tail(AttemptDir(folder).log, TAIL_BYTES))
    return [line for line in lines if line]


def _last(lines: list[str], part: str) -> str:
    return _cut([line for line in lines if part in line][-1])


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SENTENCE else text[: MAX_SENTENCE - 3] + "..."
