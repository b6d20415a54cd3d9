"""Predictions and ground truth as files of the run folder; each kind of task has its own format."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.base.records import Category, ImageRecord
from pipelines.evaluation.predictions import ImagePredictions, require_type
from pipelines.run_folder.files import write_atomic
from pipelines.tasks.base import TaskSetup, TaskSpec
from pipelines.tasks.kinds import kind_of
from pipelines.tasks.tensors.runtime import runtime_of


def write_predictions(
    folder: Path,
    name: str,
    spec: TaskSpec,
    categories: Sequence[Category],
    records: Sequence[ImageRecord],
    predictions: Sequence[ImagePredictions],
    *,
    labeled_only: bool = True,
) -> Path:
    """Write the predictions of one task, and return the file.

    Args:
        folder: `predictions/` of the run folder.
        name: of the task.
        spec: its section of the document.
        categories: of the task.
        records: they give the order, the file names and the labels.
        predictions: in any order; records without one are skipped.
        labeled_only: skip images that are not labeled for the task, as scoring does. False for new images.
    """
    runtime = runtime_of(spec)
    by_image = {prediction.image_id: prediction.tasks for prediction in predictions}
    pairs = [
        (record, by_image[record.image_id][name])
        for record in records
        if name in by_image.get(record.image_id, {}) and (name in record.labels or not labeled_only)
    ]
    for record, prediction in pairs:
        require_type(name, runtime.output, record, prediction)
    path = folder / f"{name}{kind_of(spec).predictions.suffix}"
    write_atomic(path, runtime.predictions_file(TaskSetup(name, spec, categories), pairs))
    return path


def write_ground_truth(
    folder: Path, name: str, spec: TaskSpec, categories: Sequence[Category], records: Sequence[ImageRecord]
) -> Path | None:
    """Write the labels that a task is scored against, and return the file; None for kinds whose predictions hold the
    labels."""
    file_format = kind_of(spec).ground_truth
    if file_format is None:
        return None
    path = folder / f"{name}{file_format.suffix}"
    write_atomic(path, runtime_of(spec).ground_truth_file(TaskSetup(name, spec, categories), records))
    return path
