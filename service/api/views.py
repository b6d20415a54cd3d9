"""Convert records of the database and of the model registry to response bodies."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.run_folder.layout import AttemptDir, RunDir
from pipelines.run_folder.log_text import log_tail
from pipelines.tracking.model_archive import ArchiveFacts
from pipelines.tracking.model_versions import ModelVersion
from service.failure_advice import ADVICE
from service.jobs.kinds.registry import JOB_KINDS
from service.rest.audit_schemas import Change
from service.rest.model_schemas import ArchiveView, ModelVersionView, PromotionDecision
from service.rest.schemas import (
    AttemptView,
    EventView,
    Failure,
    JobSummary,
    JobView,
    Progress,
    Resources,
    TrialOfJob,
)
from service.states import FailureKind
from service.store.audit import AuditRow
from service.store.records import AttemptRecord, Event, Job
from service.store.sweep_records import SweepTrial

LOG_TAIL_LINES = 20


def moment(seconds: float) -> datetime:
    """Return seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def moment_or_none(seconds: float | None) -> datetime | None:
    """Return the time of something that may not have happened yet."""
    return None if seconds is None else moment(seconds)


def job_summary(job: Job) -> JobSummary:
    """Return a job as shown in lists."""
    return JobSummary(**_summary(job))


def job_view(
    job: Job,
    config: dict[str, Any],
    attempts: Sequence[AttemptRecord],
    waits_for: str | None,
    run_dir: Path,
    trial: SweepTrial | None = None,
    mlflow_url: str | None = None,
) -> JobView:
    """Return a job with all details; a failed one with the end of its log."""
    return JobView(
        **_summary(job),
        trial=None if trial is None else _trial_of_job(trial),
        dataset=JOB_KINDS[job.kind].dataset(config) if job.kind in JOB_KINDS else None,
        waits_for=waits_for,
        mlflow_url=mlflow_url,
        failure=failure_of(job, run_dir),
        attempts=[_attempt_view(attempt) for attempt in attempts],
        config=config,
    )


def _trial_of_job(trial: SweepTrial) -> TrialOfJob:
    return TrialOfJob(sweep_id=trial.sweep_id, number=trial.number, state=trial.state, message=trial.message)


def _summary(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": job.name,
        "kind": job.kind,
        "status": job.status,
        "stage": job.stage,
        "priority": job.priority,
        "resources": Resources(
            cpus=job.cpus, gpus=job.gpus, gpu_type=job.gpu_type, nodes=job.num_nodes, timeout_s=job.timeout_s
        ),
        "progress": _progress(job.progress),
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested_at is not None,
        "created_at": moment(job.created_at),
        "started_at": moment_or_none(job.started_at),
        "finished_at": moment_or_none(job.finished_at),
        "mlflow_run_id": job.mlflow_run_id,
        "retry_of": job.retry_of,
        "tenant": job.tenant,
    }


def _progress(reported: dict[str, Any] | None) -> Progress | None:
    """Return the progress that the trainer reported; only epoch and step if another version wrote different fields."""
    if reported is None:
        return None
    try:
        return Progress.model_validate(reported)
    except ValidationError:
        return Progress(epoch=int(reported.get("epoch", 0)), step=int(reported.get("step", 0)))


def _attempt_view(attempt: AttemptRecord) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        started_at=moment(attempt.started_at),
        ended_at=moment_or_none(attempt.ended_at),
        outcome=attempt.outcome,
        exit_code=attempt.exit_code,
        message=attempt.message,
        gpu_ids=list(attempt.gpu_ids),
    )


def event_view(event: Event) -> EventView:
    """Return an event of a job."""
    return EventView(
        seq=event.seq,
        time=moment(event.time),
        kind=event.kind,
        attempt=event.attempt,
        epoch=event.epoch,
        step=event.step,
        data=event.data,
    )


def audit_view(row: AuditRow) -> Change:
    """Return a row of the audit log."""
    return Change(**{**asdict(row), "time": moment(row.time)})


def model_version_view(version: ModelVersion, job_id: str | None) -> ModelVersionView:
    """Return a version of a model, trained by the given job (None if this service did not train it)."""
    return ModelVersionView(
        version=version.version,
        created_at=moment(version.created_at),
        aliases=list(version.aliases),
        run_id=version.run_id,
        job_id=job_id,
        select=version.select,
        val_fingerprint=version.val_fingerprint,
        val_metrics=version.val_metrics,
        archive=archive_view(version.archive),
        promotion=None if version.promotion is None else PromotionDecision(**version.promotion.model_dump()),
    )


def archive_view(facts: ArchiveFacts | None) -> ArchiveView | None:
    """Return checksum and size of the archive of a version."""
    return None if facts is None else ArchiveView(sha256=facts.sha256, size_bytes=facts.num_bytes)


def failure_of(job: Job, run_dir: Path) -> Failure | None:
    """Return the failure of a job, with the last lines of its last attempt's log; None if it has not failed."""
    if job.failure_kind is None:
        return None
    log = AttemptDir(RunDir.of(run_dir).attempt(job.attempt)).log
    return Failure(
        kind=(kind := FailureKind(job.failure_kind)),
        advice=ADVICE[kind],
        message=job.failure_message or "the reason is unknown",
        log_tail=log_tail(log)[-LOG_TAIL_LINES:],
    )
