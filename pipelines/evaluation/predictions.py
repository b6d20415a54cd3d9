"""Predictions of all tasks for one image, and how they are paired with the labels."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.base.errors import NumericsError
from pipelines.base.records import ImageRecord
from pipelines.tasks.tensors.outputs import TaskOutput


@dataclass(frozen=True)
class ImagePredictions:
    """Everything that a model predicts for one image, by task."""

    image_id: int
    tasks: Mapping[str, TaskOutput] = field(default_factory=dict)


def _some(ids: Iterable[int]) -> str:
    ordered = sorted(ids)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(str(i) for i in ordered[:5]) + more


def _by_image(predictions: Sequence[ImagePredictions]) -> dict[int, ImagePredictions]:
    by_image = {prediction.image_id: prediction for prediction in predictions}
    if len(by_image) != len(predictions):
        counts = Counter(prediction.image_id for prediction in predictions)
        repeated = _some(image_id for image_id, count in counts.items() if count > 1)
        raise ValueError(f"predictions: images {repeated} occur more than once; gather each image from one rank only")
    return by_image


def require_type(task: str, output: type[TaskOutput], record: ImageRecord, prediction: TaskOutput) -> None:
    """Raise ValueError where the prediction is not of the type that the task's kind has."""
    if not isinstance(prediction, output):
        raise ValueError(
            f"task {task!r}: got {type(prediction).__name__} for image {record.image_id}; it needs {output.__name__}"
        )


def pair_labeled(
    task: str,
    output: type[TaskOutput],
    records: Sequence[ImageRecord],
    predictions: Sequence[ImagePredictions],
) -> list[tuple[ImageRecord, TaskOutput]]:
    """Return record and prediction of every image that is labeled for the task, in the order of the records.

    Predictions of images that are not labeled for the task are skipped, because they can be neither right nor wrong.
    So the result depends neither on the number of ranks nor on their order.

    Args:
        task: its name.
        output: type of its predictions.
        records: all images of the split.
        predictions: one for each labeled image, in any order.

    Raises:
        ValueError: an image occurs twice, a labeled image has no prediction, or a prediction has no record.
        NumericsError: a prediction is not finite.
    """
    by_image = _by_image(predictions)
    known = {record.image_id for record in records}
    if len(known) != len(records):
        raise ValueError(f"records: {len(records) - len(known)} image ids occur more than once")
    if unknown := by_image.keys() - known:
        raise ValueError(f"predictions: images {_some(unknown)} are not in the data that is scored")
    labeled = [record for record in records if task in record.labels]
    if missing := {r.image_id for r in labeled if r.image_id not in by_image or task not in by_image[r.image_id].tasks}:
        raise ValueError(f"predictions: images {_some(missing)} are labeled for task {task!r} but were not predicted")
    pairs = []
    for record in labeled:
        prediction = by_image[record.image_id].tasks[task]
        require_type(task, output, record, prediction)
        if not prediction.is_finite():
            raise NumericsError(
                f"task {task!r}: the prediction of image {record.image_id} ({record.file_name}) is not finite; train "
                "with a lower model.optimizer.lr, or a longer model.schedule.warmup_steps"
            )
        pairs.append((record, prediction))
    return pairs
