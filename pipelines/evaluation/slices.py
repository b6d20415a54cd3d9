"""Scores of the slices of a split."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.base.records import Category, ImageRecord
from pipelines.evaluation.evaluate import Gallery, evaluate_task
from pipelines.evaluation.predictions import ImagePredictions
from pipelines.spec.model import ModelSpec
from pipelines.tasks.base import BestThresholds
from pipelines.tasks.kinds import kind_of


def score_slices(
    model: ModelSpec,
    categories: Mapping[str, Sequence[Category]],
    records: Sequence[ImageRecord],
    predictions: Sequence[ImagePredictions],
    slices: Mapping[str, Mapping[int, str]],
    *,
    gallery: Gallery | None = None,
    best_thresholds: Mapping[str, BestThresholds] | None = None,
) -> list[dict[str, Any]]:
    """Return the entry `slices` of result.json: for each column, the numbers of each value, and the worst one by task.

    The worst slice of a task has the lowest main metric; slices where it is undefined are skipped, and of equal ones
    the first by name is the worst.

    Args:
        model: `model` of the document.
        categories: by task.
        records: the split.
        predictions: one for each of its labeled images.
        slices: by column, the value of each image by its id.
        gallery: for tasks that search the training split.
        best_thresholds: by task, those found on val; None: each slice finds its own.
    """

    def numbers_of(name: str, image_ids: set[int]) -> dict[str, Any]:
        spec = model.tasks[name]
        thresholds = None if best_thresholds is None else best_thresholds.get(name, {})
        result = evaluate_task(name, spec, categories[name], records, predictions, gallery, thresholds, part=image_ids)
        numbers = kind_of(spec).numbers(result)
        return {
            "num_images": result["num_images"],
            "numbers": {metric: numbers[metric] for metric in kind_of(spec).metrics},
        }

    columns = []
    for column, of_images in slices.items():
        values = []
        for value in sorted(set(of_images.values())):
            image_ids = {image_id for image_id, own in of_images.items() if own == value}
            tasks = {name: numbers_of(name, image_ids) for name in sorted(model.tasks)}
            values.append({"value": value, "num_images": len(image_ids), "tasks": tasks})
        worst = {name: _worst(name, kind_of(spec).main_metric(spec), values) for name, spec in model.tasks.items()}
        columns.append({"column": column, "values": values, "worst": worst})
    return columns


def _worst(task: str, metric: str, values: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    numbers = {row["value"]: row["tasks"][task]["numbers"][metric] for row in values}
    defined = {value: number for value, number in numbers.items() if number is not None}
    if not defined:
        return None
    value = min(defined, key=lambda name: defined[name])
    return {"value": value, "metric": metric, "number": defined[value]}
