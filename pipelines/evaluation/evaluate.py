"""From predictions and labels to the scores of one task, on rank 0."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.base.records import Category, DatasetIndex, ImageRecord, Split
from pipelines.evaluation.predictions import ImagePredictions, pair_labeled
from pipelines.spec.model import ModelSpec
from pipelines.tasks.base import BestThresholds, TaskSetup, TaskSpec
from pipelines.tasks.kinds import kind_of
from pipelines.tasks.temperature import FittedTemperature
from pipelines.tasks.tensors.runtime import runtime_of


@dataclass(frozen=True)
class Gallery:
    """The training split and its predictions, for tasks that search there."""

    records: Sequence[ImageRecord]
    predictions: Sequence[ImagePredictions]


def evaluate_tasks(
    spec: ModelSpec,
    index: DatasetIndex,
    split: Split,
    predictions: Sequence[ImagePredictions],
    gallery: Sequence[ImagePredictions],
    best_thresholds: Mapping[str, BestThresholds] | None = None,
) -> dict[str, Any]:
    """Return the entries of all tasks in result.json, sorted by task; see `evaluate_task`.

    Args:
        spec: `model` of the document.
        index: the labels and categories.
        split: that is scored.
        predictions: one for each labeled image of the split.
        gallery: predictions for the training split, if a task searches there.
        best_thresholds: by task; None: find those of these images.
    """
    searched = Gallery(index.records["train"], gallery) if spec.gallery_tasks else None
    return {
        name: evaluate_task(
            name,
            task,
            index.categories[name],
            index.records[split],
            predictions,
            searched,
            None if best_thresholds is None else best_thresholds.get(name, {}),
        )
        for name, task in sorted(spec.tasks.items())
    }


def evaluate_task(
    name: str,
    spec: TaskSpec,
    categories: Sequence[Category],
    records: Sequence[ImageRecord],
    predictions: Sequence[ImagePredictions],
    gallery: Gallery | None = None,
    best_thresholds: BestThresholds | None = None,
    *,
    part: Collection[int] | None = None,
) -> dict[str, Any]:
    """Return the task's entry in result.json (see `pipelines.spec.result`): plain numbers, None where undefined.

    Args:
        name: of the task, the key of labels and predictions.
        spec: its section of the document.
        categories: of the task; the labels in predictions are positions in it.
        records: all images of the split that is scored. Only those labeled for the task count.
        predictions: one for each labeled image, in any order. Those of images that are not labeled are ignored.
        gallery: for tasks that search the training split.
        best_thresholds: those found on val, to score another split; None: find those of these images.
        part: ids of the images that are scored, and that queries are taken from; the others only belong to the
            gallery of a task that searches its own split. None: all.

    Raises:
        ValueError: see `pair_labeled`; or labels that do not fit the task.
        NumericsError: a prediction is not finite.
    """
    kind, runtime = kind_of(spec), runtime_of(spec)
    pairs = pair_labeled(name, runtime.output, records, predictions)
    searched = None
    if gallery is not None and kind.searches_training_split(spec):
        searched = pair_labeled(name, runtime.output, gallery.records, gallery.predictions)
    setup = TaskSetup(name, spec, categories, best_thresholds)
    if part is None:
        return {"kind": kind.name, "num_images": len(pairs), **runtime.score(setup, pairs, searched)}
    is_part = [record.image_id in part for record, _ in pairs]
    return {"kind": kind.name, "num_images": sum(is_part), **runtime.score_part(setup, pairs, is_part, searched)}


def fit_temperature(
    name: str,
    spec: TaskSpec,
    categories: Sequence[Category],
    records: Sequence[ImageRecord],
    predictions: Sequence[ImagePredictions],
) -> FittedTemperature | None:
    """Return the temperature that calibrates the scores of a task, see `evaluate_task`; None for a task without scores
    or labels."""
    runtime = runtime_of(spec)
    pairs = pair_labeled(name, runtime.output, records, predictions)
    return runtime.fit_temperature(TaskSetup(name, spec, categories), pairs)
