"""What a model says about one image, in original pixels, and how it is brought together with the labels.

Numpy only, and small when pickled: predictions are gathered from all ranks to rank 0.

Legend: N boxes or objects, K classes, D embedding.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import NumericsError
from pipelines.records import ImageRecord

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]


def _require_shape(name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> None:
    if array.ndim != len(shape) or any(want not in (None, got) for got, want in zip(array.shape, shape, strict=True)):
        wanted = tuple("any" if size is None else size for size in shape)
        raise ValueError(f"{name}: got the shape {array.shape}; it must be {wanted}")


@dataclass(frozen=True)
class Detections:
    """Objects found in one image: boxes_xyxy (N, 4) in original pixels, scores (N,), labels (N,), which are
    positions in the task's list of categories. Nothing found: (0, 4), (0,), (0,)."""

    boxes_xyxy: FloatArray
    scores: FloatArray
    labels: IntArray

    def __post_init__(self) -> None:
        _require_shape("boxes_xyxy", self.boxes_xyxy, (None, 4))
        _require_shape("scores", self.scores, (len(self.boxes_xyxy),))
        _require_shape("labels", self.labels, (len(self.boxes_xyxy),))


@dataclass(frozen=True)
class ClassScores:
    """Scores (K,) in [0, 1] of one image: they add up to 1 (multiclass) or are independent (multilabel)."""

    scores: FloatArray

    def __post_init__(self) -> None:
        _require_shape("scores", self.scores, (None,))


@dataclass(frozen=True)
class Embeddings:
    """Embeddings (N, D) of one image (N = 1, no boxes) or of N objects in it.

    boxes_xyxy (N, 4) in original pixels; annotation_ids (N,) where the boxes are those of the labels, None where a
    detector found them; identities (N,) as the labels name them, '' where unknown, None to have them looked up in
    the labels.
    """

    embeddings: FloatArray
    boxes_xyxy: FloatArray | None = None
    annotation_ids: IntArray | None = None
    identities: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        _require_shape("embeddings", self.embeddings, (None, None))
        count = len(self.embeddings)
        if self.boxes_xyxy is not None:
            _require_shape("boxes_xyxy", self.boxes_xyxy, (count, 4))
        if self.annotation_ids is not None:
            _require_shape("annotation_ids", self.annotation_ids, (count,))
        if self.identities is not None:
            _require_shape("identities", self.identities, (count,))


TaskPrediction = Detections | ClassScores | Embeddings
PredictionT = TypeVar("PredictionT", Detections, ClassScores, Embeddings)


@dataclass(frozen=True)
class ImagePredictions:
    """All that a model says about one image, by task."""

    image_id: int
    tasks: Mapping[str, TaskPrediction] = field(default_factory=dict)


def _some(ids: Iterable[int]) -> str:
    ordered = sorted(ids)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(str(i) for i in ordered[:5]) + more


def _by_image(predictions: Sequence[ImagePredictions]) -> dict[int, ImagePredictions]:
    by_image = {prediction.image_id: prediction for prediction in predictions}
    if len(by_image) != len(predictions):
        counts = Counter(prediction.image_id for prediction in predictions)
        twice = _some(image_id for image_id, count in counts.items() if count > 1)
        raise ValueError(f"predictions: images {twice} are there more than once; gather each image from one rank only")
    return by_image


def is_finite(prediction: TaskPrediction) -> bool:
    """Whether every number of the prediction is finite."""
    if isinstance(prediction, Detections):
        return bool(np.isfinite(prediction.boxes_xyxy).all() and np.isfinite(prediction.scores).all())
    numbers = prediction.scores if isinstance(prediction, ClassScores) else prediction.embeddings
    return bool(np.isfinite(numbers).all())


def pair_labeled(
    task: str,
    kind: type[PredictionT],
    records: Sequence[ImageRecord],
    predictions: Sequence[ImagePredictions],
) -> list[tuple[ImageRecord, PredictionT]]:
    """Return record and prediction of every image that is labeled for the task, in the order of the records.

    Predictions of images that are not labeled for the task are left out: they can be neither right nor wrong. So
    the result depends neither on the number of ranks nor on their order.

    Raises:
        ValueError: An image is there twice, a labeled image has no prediction, or a prediction has no record.
        NumericsError: A prediction is not finite.
    """
    by_image = _by_image(predictions)
    known = {record.image_id for record in records}
    if len(known) != len(records):
        raise ValueError(f"records: {len(records) - len(known)} image ids are there more than once")
    if unknown := by_image.keys() - known:
        raise ValueError(f"predictions: images {_some(unknown)} are not in the data that is scored")
    labeled = [record for record in records if task in record.labels]
    if missing := {r.image_id for r in labeled if r.image_id not in by_image or task not in by_image[r.image_id].tasks}:
        raise ValueError(f"predictions: images {_some(missing)} are labeled for task {task!r} but were not predicted")
    pairs = []
    for record in labeled:
        prediction = by_image[record.image_id].tasks[task]
        if not isinstance(prediction, kind):
            raise ValueError(
                f"task {task!r}: got {type(prediction).__name__} for image {record.image_id}; it wants {kind.__name__}"
            )
        if not is_finite(prediction):
            raise NumericsError(
                f"task {task!r}: the prediction of image {record.image_id} ({record.file_name}) is not finite; train "
                "with a lower model.optimizer.lr, or a longer model.schedule.warmup_steps"
            )
        pairs.append((record, prediction))
    return pairs
