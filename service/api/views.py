"""Rows of the database as what goes over REST."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.run_folder.layout import AttemptDir, RunDir
from pipelines.run_folder.log_text import log_tail
from service.rest.schemas import AttemptView, Failure, JobSummary, JobView, Progress, Resources
from service.states import FailureKind
from service.store.records import Attempt, Job

LOG_TAIL_LINES = 20


def moment(seconds: float) -> datetime:
    """Return seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)


def job_summary(job: Job) -> JobSummary:
    """Return a job as in lists."""
    return JobSummary(**_summary(job))


def job_view(
    job: Job, config: dict[str, Any], attempts: Sequence[Attempt], waits_for: str | None, run_dir: Path
) -> JobView:
    """Return a job with all that is known of it; a failed one with the end of its log."""
    return JobView(
        **_summary(job),
        waits_for=waits_for,
        failure=failure_of(job, run_dir),
        attempts=[_attempt_view(attempt) for attempt in attempts],
        config=config,
    )


def _summary(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "status": job.status,
        "stage": job.stage,
        "priority": job.priority,
        "resources": Resources(cpus=job.cpus, gpus=job.gpus, timeout_s=job.timeout_s),
        "progress": _progress(job.progress),
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested_at is not None,
        "created_at": moment(job.created_at),
        "started_at": _moment(job.started_at),
        "finished_at": _moment(job.finished_at),
        "mlflow_run_id": job.mlflow_run_id,
        "retry_of": job.retry_of,
    }


def _progress(told: dict[str, Any] | None) -> Progress | None:
    """What the trainer told; where another version of it told something else, only the epoch and the step."""
    if told is None:
        return None
    try:
        return Progress.model_validate(told)
    except ValidationError:
        return Progress(epoch=int(told.get("epoch", 0)), step=int(told.get("step", 0)))


def _attempt_view(attempt: Attempt) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        started_at=moment(attempt.started_at),
        ended_at=_moment(attempt.ended_at),
        outcome=attempt.outcome,
        exit_code=attempt.exit_code,
        message=attempt.message,
        gpu_ids=list(attempt.gpu_ids),
    )


def failure_of(job: Job, run_dir: Path) -> Failure | None:
    """Return why a job has failed, with the last lines of its last attempt; None for any other job."""
    if job.failure_kind is None:
        return None
    log = AttemptDir(RunDir.of(run_dir).attempt(job.attempt)).log
    return Failure(
        kind=FailureKind(job.failure_kind),
        message=job.failure_message or "no reason is known",
        log_tail=log_tail(log)[-LOG_TAIL_LINES:],
    )
