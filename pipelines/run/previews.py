"""`check`, `plan` and `lr-find`: commands that read a document and its data, and start no run."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import DatasetIndex
from pipelines.data.dataset.checks.report import DataReport
from pipelines.preflight import Inputs
from pipelines.run.dry_run import dry_run, render
from pipelines.run.estimate import estimate_job, reason_not_to_measure
from pipelines.run.find_rate import draw_range, find_rate
from pipelines.run.plan import render_plan
from pipelines.run.run_precision import new_precision
from pipelines.spec.job import JobSpec
from pipelines.spec.load import Document

MIN_STEPS = 20


@dataclass(frozen=True)
class Preview:
    """The output of a command, as text and as JSON."""

    text: str
    content: Any
    warnings: tuple[str, ...] = ()


def preview(
    command: str,
    options: argparse.Namespace,
    job: JobSpec,
    document: Document,
    inputs: Inputs,
    index: DatasetIndex,
    report: DataReport,
) -> Preview:
    """Return what a command prints about a job whose data has no errors.

    Args:
        command: check, plan or lr-find.
        options: of the command.
        job: the validated document.
        document: the document as the user wrote it.
        inputs: what the names in the document refer to.
        index, report: the job's data.

    Raises:
        ConfigError, DataError: the job would not start.
        RegistryError: MLflow does not respond, so whether the job would start is unknown.
    """
    if command == "lr-find":
        return _rate(options, job, inputs, index)
    checked = dry_run(job, inputs, index, report)
    if command == "check":
        return Preview(render(checked), checked.to_dict(), checked.warnings)
    is_measured = not options.no_measure
    reason = reason_not_to_measure(job) if is_measured else None
    estimate = None
    if is_measured and reason is None:
        estimate = estimate_job(job, document, index, new_precision(job.trainer))
    lines = [render_plan(checked.plan, job.model.schedule)]
    lines += [f"precision: {checked.precision}"] if checked.precision else []
    lines += [str(estimate)] if estimate else []
    content = {
        "groups": [row.to_dict() for row in checked.plan],
        "precision": checked.precision,
        "estimate": estimate.to_dict() if estimate else None,
    }
    return Preview("\n".join(lines), content, (*checked.warnings, *([reason] if reason else [])))


def _rate(options: argparse.Namespace, job: JobSpec, inputs: Inputs, index: DatasetIndex) -> Preview:
    if options.steps < MIN_STEPS:
        raise ConfigError(FieldProblem("--steps", f"got {options.steps}; write at least {MIN_STEPS}"))
    warnings: list[str] = []
    found = find_rate(job, inputs, index, options.steps, warnings.append)
    path = Path(options.out)
    draw_range(found, path)
    return Preview(f"{found}\npicture in {path}", found.to_dict(), tuple(warnings))
