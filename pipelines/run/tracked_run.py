"""Log a run to MLflow: the document, its data, the code, and the result."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.base.errors import Stopped
from pipelines.evaluation.conditions import condition_metrics
from pipelines.run.attempt import Attempt
from pipelines.run.versions import git_commit
from pipelines.run_folder.tracking_files import RunStatus
from pipelines.tasks.kinds import KINDS
from pipelines.tracking.mlflow_names import COMMIT_TAG, flatten
from pipelines.tracking.tracker import Tracker

MAX_CLASSES = 300
"""Tasks with more classes or identities have theirs in result.json only."""


@contextmanager
def tracked(attempt: Attempt) -> Iterator[None]:
    """Log the job to MLflow, and set the final status of the MLflow run at the end."""
    if attempt.tracker is None:
        yield
        return
    _log_start(attempt, attempt.tracker)
    status: RunStatus = "FAILED"
    try:
        yield
        status = "FINISHED"
    except (Stopped, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        attempt.tracker.close(status)


def _log_start(attempt: Attempt, tracker: Tracker) -> None:
    tracker.log_params(flatten(attempt.job))
    if commit := git_commit():
        tracker.log_tags({"git_commit": commit, COMMIT_TAG: commit})
    if attempt.inputs.init_from is not None:
        tracker.log_tags({"init_from": attempt.inputs.init_from})
    if attempt.job.data.dataset is not None:
        tracker.log_tags({"dataset": attempt.job.data.dataset})
    report = attempt.report
    tracker.log_tags({f"fingerprint.{split}": text for split, text in report.fingerprints.items()})
    for split, fingerprint in report.fingerprints.items():
        tracker.log_dataset(
            split,
            name=attempt.job.data.dataset or attempt.job.data.root,
            fingerprint=fingerprint,
            source=attempt.inputs.data,
            counts={"num_images": report.images[split].in_index},
        )


def log_result(attempt: Attempt) -> None:
    """Send the result and the files of the run folder to MLflow, also if an earlier attempt may have sent some."""
    if attempt.tracker is None:
        return
    result = json.loads(attempt.run_dir.result.read_text())
    step = result["model"]["best_step"]
    attempt.tracker.log_metrics(result["summary"], step=step)
    attempt.tracker.log_metrics(class_metrics(result), step=step)
    attempt.tracker.log_metrics(analysis_metrics(result), step=step)
    attempt.tracker.log_metrics(condition_metrics(attempt.job.model, result), step=step)
    attempt.tracker.log_tags(result["versions"])
    for path in (attempt.run_dir.result, attempt.run_dir.config_yaml, attempt.run_dir.data_report):
        attempt.tracker.log_artifact(path)
    run_dir = attempt.run_dir
    for folder in (run_dir.predictions, run_dir.ground_truth, run_dir.plots, run_dir.worst_folder):
        # Runs with `evaluation.plots: false` have no plots, runs without a detection task no worst images.
        if folder.is_dir():
            attempt.tracker.log_artifact(folder, folder.name)


def class_metrics(result: dict[str, Any]) -> dict[str, float | None]:
    """Return the metrics of all classes of a result as `<split>/<task>/per_class/<class>/<metric>`."""
    metrics: dict[str, float | None] = {}
    for name, task in result["tasks"].items():
        kind = KINDS[task["kind"]]
        rows = task["per_class"] if len(task["per_class"]) <= MAX_CLASSES else []
        for row in rows:
            for metric in kind.plotted_class_columns:
                metrics[f"{result['split']}/{name}/per_class/{row[kind.class_columns[0]]}/{metric}"] = row[metric]
    return metrics


def analysis_metrics(result: dict[str, Any]) -> dict[str, float | None]:
    """Return the costs of errors as `<split>/<task>/errors/<kind>`, and calibration errors as `<split>/<task>/ece`."""
    metrics: dict[str, float | None] = {}
    for name, task in result["tasks"].items():
        prefix = f"{result['split']}/{name}"
        views = KINDS[task["kind"]].analyses(task)
        if "errors" in views:
            costs = views["errors"]["errors"]["cost"]
            metrics |= {f"{prefix}/errors/{kind}": cost for kind, cost in costs.items()}
        if "calibration" in views:
            metrics[f"{prefix}/ece"] = views["calibration"]["calibration"]["ece"]
    return metrics
