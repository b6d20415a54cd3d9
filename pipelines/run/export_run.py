"""`export` and `bench-model`: the model of a run in other runtimes."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from pipelines.base.errors import ConfigError, DataError, FieldProblem
from pipelines.base.ranks import print_rank_zero
from pipelines.base.records import Split
from pipelines.data.loading.datamodule import JobData
from pipelines.export.report import export_metrics, write_report
from pipelines.export.variants import ExportSource, export_variant
from pipelines.inference.export import load_exported, read_best_thresholds
from pipelines.preflight import Places
from pipelines.run.folder_setup import locked
from pipelines.run.saved_run import load_data, load_document, load_run, require_images
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.layout import ExportedModelDir, RunDir, runs_root
from pipelines.runtimes.rows import RUNTIMES
from pipelines.runtimes.variant import INSTALL
from pipelines.spec.export_settings import ExportSettings
from pipelines.spec.exported_variant import ExportedVariant
from pipelines.spec.job import JobSpec
from pipelines.tracking.evaluation_log import log_export
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.version_exports import add_to_versions

_FOR_GRAPHS = ("onnx", "onnxscript")
_FOR_INTEGERS = ("openvino", "nncf")


def export_run(path: Path, settings: ExportSettings, places: Places) -> ExportedVariant:
    """Export the model of a finished run, and evaluate the export on val, and on test if that is asked for.

    Args:
        path: folder of the run.
        settings: what to export.
        places: where to look for the data; by default it is where it was for training.

    Raises:
        ConfigError: the run has no model, its folder cannot be written or is in use, its network cannot be exported, or
            a package is missing.
        DataError: its data has errors, other classes than in training, or no images of a split.
        OSError: the disk is full.
    """
    require_packages(settings)
    run_dir, job = load_document(path)
    exports = ExportsDir.of(run_dir.path)
    with locked(run_dir):
        source = load_source(run_dir, job, places, settings.splits)
        variant = export_variant(source, settings, exports, report=print_rank_zero)
        write_report(exports)
        if job.tracking is not None:
            step = load_run(run_dir, job).step
            store = find_store(runs_root())
            log_export(store, run_dir, export_metrics(variant), step, _warn)
            add_to_versions(store, run_dir, exports.variant(variant.name).path, variant.result, _warn)
    return variant


def load_source(run_dir: RunDir, job: JobSpec, places: Places, splits: Sequence[Split] = ("val",)) -> ExportSource:
    """Return the model of a finished run with the data of the splits that it is evaluated on; see `export_run` for the
    errors."""
    folder = ExportedModelDir(run_dir.model)
    if not folder.description.is_file():
        message = f"{run_dir.path} has no model; let `pyramidion fit` finish"
        raise ConfigError(FieldProblem("--run-dir", message))
    model, described, categories = load_exported(folder.path)
    _, index, report = load_data(run_dir, job, "val", places)
    if categories != index.categories:
        message = "the data has other classes than the run was trained on; name the run's own data by --data.root"
        raise DataError(FieldProblem("data.sources", message))
    for split in splits:
        require_images(index, split)
    return ExportSource(
        model=model,
        job=described,
        categories=categories,
        best_thresholds=read_best_thresholds(folder.path),
        weights=folder.weights,
        index=index,
        data=JobData(described.data, described.model.tasks, index, described.seed_everything),
        fingerprints={str(split): value for split, value in report.fingerprints.items()},
    )


def require_packages(settings: ExportSettings) -> None:
    """Raise ConfigError if a package that an export needs is not installed."""
    needed = [*_FOR_GRAPHS, RUNTIMES[settings.runtime].package]
    needed += _FOR_INTEGERS if settings.precision == "int8" else ()
    if missing := sorted({name for name in needed if find_spec(name) is None}):
        message = f"got {settings.runtime}, which needs {', '.join(missing)}; {INSTALL}"
        raise ConfigError(FieldProblem("--to", message))


def _warn(text: str) -> None:
    print_rank_zero(f"warning: {text}")
