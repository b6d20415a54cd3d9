"""Tables and pages about jobs for the terminal."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipelines.base.clock import format_duration, format_moment
from pipelines.base.quantities import quantity
from pipelines.spec.load import write_yaml
from service.client.facts import facts_table
from service.rest.schemas import AttemptView, DryRun, Failure, JobSummary, JobView, Resources, TrialOfJob


def jobs_table(jobs: Iterable[JobSummary]) -> Table:
    """Return a table with a row for each job."""
    table = _table("id", "name", "kind", "status", "progress", "priority", "created", "took")
    for job in jobs:
        status = f"{job.status}, {job.stage}" if job.stage else str(job.status)
        cells = (job.id, job.name, job.kind, status, _short_progress(job), str(job.priority), _moment(job.created_at))
        table.add_row(*map(escape, cells), _took(job.started_at, job.finished_at))
    return table


def job_page(job: JobView) -> Group:
    """Return a page with all details of a job."""
    facts = {
        "id": job.id,
        "name": job.name,
        "kind": job.kind,
        "status": str(job.status) + (", cancel requested" if job.cancel_requested and not job.finished_at else ""),
        "stage": job.stage,
        "waits for": job.waits_for,
        "progress": _progress(job),
        "priority": str(job.priority),
        "resources": _resources(job.resources),
        "created": _moment(job.created_at),
        "started": _moment(job.started_at),
        "finished": _moment(job.finished_at),
        "took": _took(job.started_at, job.finished_at),
        "MLflow run": job.mlflow_run_id,
        "retry of": job.retry_of,
        "sweep": None if job.trial is None else _trial(job.trial),
    }
    parts: list[RenderableType] = [facts_table(facts)]
    if job.attempts:
        parts.append(_attempts_table(job.attempts))
    if job.failure is not None:
        parts.append(Text(f"{failure_text(job.failure)}\n"))
    parts.append(Text(f"document:\n{_indented(write_yaml(job.config))}"))
    return Group(*parts)


def failure_text(failure: Failure) -> str:
    """Return the reason why a job failed, and the last lines of its log."""
    tail = _indented("\n".join(failure.log_tail))
    return f"{failure.kind}: {failure.message}" + (f"\nlast lines of the log:\n{tail}" if tail else "")


def dry_run_page(dry_run: DryRun) -> Group:
    """Return a page about a dry run: the document with all defaults, and the parts that train in each epoch."""
    names = [part.stage for part in dry_run.stages]
    table = _table("trains from epoch", "stages", "parameters")
    for row in dry_run.trainable:
        stages = "all" if set(names) <= set(row.stages) else ", ".join(row.stages)
        table.add_row(str(row.epoch + 1), escape(stages), f"{row.parameters:,}")
    parts = _table("part of the network", "parameters")
    for part in dry_run.stages:
        parts.add_row(escape(part.stage), f"{part.parameters:,}")
    return Group(
        Text(write_yaml(dry_run.config)),
        Text(f"resources: {_resources(dry_run.resources)}"),
        Text(_data_line(dry_run.data_report)),
        parts,
        table,
    )


def _data_line(report: dict[str, Any]) -> str:
    splits = [f"{counts['in_index']} of {counts['listed']} {split}" for split, counts in report["splits"].items()]
    skipped = f"; {quantity(report['num_skipped'], 'skipped image')}" if report.get("num_skipped") else ""
    return f"data: {', '.join(splits)} images are used{skipped}; {quantity(report['num_warnings'], 'warning')}"


def _attempts_table(attempts: Iterable[AttemptView]) -> Table:
    table = _table("attempt", "started", "took", "outcome", "exit code", "GPUs", "message")
    for attempt in attempts:
        code = "" if attempt.exit_code is None else str(attempt.exit_code)
        table.add_row(
            str(attempt.number),
            _moment(attempt.started_at),
            _took(attempt.started_at, attempt.ended_at),
            attempt.outcome or "running",
            code,
            escape(", ".join(attempt.gpu_ids)),
            escape(attempt.message or ""),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(*columns, box=SIMPLE_HEAD)
    table.columns[0].no_wrap = columns[0] == "id"
    return table


def _resources(resources: Resources) -> str:
    timeout = "" if resources.timeout_s is None else f", at most {format_duration(resources.timeout_s)}"
    nodes = f"{resources.nodes} nodes with " if resources.nodes > 1 else ""
    kind = f" ({resources.gpu_type})" if resources.gpu_type else ""
    return f"{nodes}{resources.cpus} CPUs, {resources.gpus} GPUs{kind}{timeout}"


def _short_progress(job: JobSummary) -> str:
    progress = job.progress
    if progress is None:
        return ""
    remaining = (
        "" if progress.left_s is None or job.status.is_terminal else f", {format_duration(progress.left_s)} left"
    )
    if progress.total is not None:
        return f"{progress.done}/{progress.total} {progress.unit or ''}".rstrip() + remaining
    return f"epoch {progress.epoch + 1}/{progress.max_epochs or '?'}{remaining}"


def _progress(job: JobSummary) -> str:
    if job.progress is None:
        return ""
    if job.progress.total is not None:
        return _short_progress(job)
    losses = [f"{name.removeprefix('train/')} {value:.3f}" for name, value in job.progress.losses.items()]
    return ", ".join([_short_progress(job), f"step {job.progress.step}", *losses])


def _trial(trial: TrialOfJob) -> str:
    reason = "" if trial.message is None else f", {trial.message}"
    return f"{trial.sweep_id}, trial {trial.number}: {trial.state}{reason}"


def _moment(moment: datetime | None) -> str:
    return format_moment(moment) if moment else ""


def _took(started: datetime | None, ended: datetime | None) -> str:
    if started is None:
        return ""
    return format_duration(((ended or datetime.now(started.tzinfo)) - started).total_seconds())


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
