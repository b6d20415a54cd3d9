"""Results of `validate`, `test` and `export` in the MLflow run of a training. Torch-free."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.layout import RunDir
from pipelines.tracking.job_runs import run_of_trainer
from pipelines.tracking.mlflow_names import distinct_keys
from pipelines.tracking.mlflow_store import Store, connect, one_line


def log_evaluation(
    store: Store, run_dir: RunDir, metrics: Mapping[str, float | None], step: int, warn: Callable[[str], None]
) -> None:
    """Add metrics, and the result and the pictures of an evaluation, to the MLflow run of its run folder.

    Nothing is sent if the run is not in this store. Problems of MLflow are warnings.

    Args:
        store: the MLflow store.
        run_dir: the run, with the folder of the evaluation as its `output`; the files go to `eval/<its name>/`.
        metrics: by name; undefined ones (None) are skipped.
        step: of the weights that were scored.
        warn: is called with the problem.
    """
    folder = f"{run_dir.evaluations.name}/{run_dir.output.name}"
    files = [(run_dir.result, folder)]
    if run_dir.plots.is_dir():
        files += [(path, f"{folder}/{run_dir.plots.name}") for path in sorted(run_dir.plots.iterdir())]
    _log(store, run_of_trainer(run_dir.path, store), metrics, step, files, warn)


def log_export(
    store: Store, run_dir: RunDir, metrics: Mapping[str, float | None], step: int, warn: Callable[[str], None]
) -> None:
    """Add the metrics of an export, and the report of all exports, to the MLflow run of its run folder; see
    `log_evaluation`."""
    report = ExportsDir.of(run_dir.path).report
    _log(store, run_of_trainer(run_dir.path, store), metrics, step, [(report, report.parent.name)], warn)


def log_export_of_version(
    store: Store, run_id: str, metrics: Mapping[str, float | None], warn: Callable[[str], None]
) -> None:
    """Add the metrics of an export to the MLflow run that has registered its version; see `log_evaluation`."""
    _log(store, run_id, metrics, 0, [], warn)


def _log(
    store: Store,
    run_id: str | None,
    metrics: Mapping[str, float | None],
    step: int,
    files: Sequence[tuple[Path, str]],
    warn: Callable[[str], None],
) -> None:
    """Add metrics, and files with the folder of each among the artifacts."""
    if run_id is None:
        return
    try:
        from mlflow.entities import Metric

        client, now_ms = connect(store), int(time.time() * 1000)
        keys = distinct_keys(metrics)
        points = [Metric(keys[name], value, now_ms, step) for name, value in metrics.items() if value is not None]
        client.log_batch(run_id, metrics=points)
        for path, folder in files:
            client.log_artifact(run_id, str(path), folder)
    except Exception as error:  # No error of MLflow may hide a result that is written.
        advice = "".join(f"; see {path}" for path, _ in files[:1])
        warn(f"MLflow at {store.label} does not have this result: {one_line(error)}{advice}")
