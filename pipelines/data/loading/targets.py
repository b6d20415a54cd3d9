"""From the labels of a record to what the heads learn from.

Legend: N boxes, K classes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from heads.base import BoxTarget, ClassTarget, IdentityTarget, Target
from pipelines.errors import DataError, FieldProblem
from pipelines.records import BoxLabel, Category, ImageRecord
from pipelines.spec.tasks import ClassificationSpec, EmbeddingSpec, Task

UNKNOWN = -1
"""Identity of an object (or image) that has none, or one that is not in the training data."""


class TargetEncoder:
    """Encodes labels of all tasks; labels are positions in the task's list of categories.

    Args:
        tasks: the model's tasks by name.
        categories: by task the classes; for an embedding the identities of the training data.
    """

    def __init__(self, tasks: Mapping[str, Task], categories: Mapping[str, Sequence[Category]]) -> None:
        self.tasks = dict(sorted(tasks.items()))
        self._positions = {
            task: {category.name: position for position, category in enumerate(categories.get(task, ()))}
            for task in self.tasks
        }

    def encode(self, record: ImageRecord) -> dict[str, Target]:
        """Return the targets of the tasks that the record is labeled for.

        Boxes are xyxy in pixels of the original, clipped to it, in the record's order (position i of a target is
        `record.labels[task][i]`). The target of an embedding of objects carries the identity as its label too.

        Raises:
            DataError: a class that is not in the task's categories; not exactly one class where one is needed.
        """
        return {
            task: self._encode_task(record, task, spec) for task, spec in self.tasks.items() if task in record.labels
        }

    def _encode_task(self, record: ImageRecord, task: str, spec: Task) -> Target:
        labels = record.labels[task]
        match spec:
            case ClassificationSpec(is_multilabel=False):
                name = self._only_name(record, task)
                return ClassTarget(torch.tensor(self._position(record, task, name)))
            case ClassificationSpec():
                present = torch.zeros(len(self._positions[task]))
                present[[self._position(record, task, name) for name in cast("list[str]", labels)]] = 1.0
                return ClassTarget(present)
            case EmbeddingSpec(of="image"):
                return IdentityTarget(torch.tensor(self._identity(task, self._only_name(record, task))))
            case EmbeddingSpec():
                boxes = cast("list[BoxLabel]", labels)
                identities = [self._identity(task, box.identity) for box in boxes]
                return _box_target(record, boxes, identities, identities)
            case _:
                boxes = cast("list[BoxLabel]", labels)
                positions = [self._position(record, task, box.category) for box in boxes]
                return _box_target(record, boxes, positions, [UNKNOWN] * len(boxes))

    def _identity(self, task: str, name: str | None) -> int:
        return UNKNOWN if name is None else self._positions[task].get(name, UNKNOWN)

    def _position(self, record: ImageRecord, task: str, name: str) -> int:
        position = self._positions[task].get(name)
        if position is None:
            raise DataError(
                FieldProblem(
                    record.file_name,
                    f"task {task!r} has the class {name!r}, which is none of {sorted(self._positions[task])}; "
                    "correct the label, or map it with `classes` of the label layer",
                )
            )
        return position

    def _only_name(self, record: ImageRecord, task: str) -> str:
        names = cast("list[str]", record.labels[task])
        if len(names) != 1:
            raise DataError(
                FieldProblem(
                    record.file_name,
                    f"task {task!r} has the classes {names}; it takes exactly one an image: correct the label, or "
                    "make the task `head: multilabel`",
                )
            )
        return names[0]


def _box_target(
    record: ImageRecord, boxes: Sequence[BoxLabel], labels: Sequence[int], identities: Sequence[int]
) -> BoxTarget:
    boxes_xywh = torch.tensor([box.bbox_xywh for box in boxes], dtype=torch.float64).reshape(-1, 4)
    boxes_xyxy = torch.cat([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], dim=1)
    return BoxTarget(
        boxes_xyxy=clip_boxes(boxes_xyxy, (record.height, record.width)).float(),
        labels=torch.tensor(labels, dtype=torch.int64),
        is_crowd=torch.tensor([box.is_crowd for box in boxes], dtype=torch.bool),
        identities=torch.tensor(identities, dtype=torch.int64),
    )


def clip_boxes(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Return boxes (N, 4) clipped to an image of `size_hw`."""
    height, width = size_hw
    return torch.minimum(boxes_xyxy.clamp(min=0), boxes_xyxy.new_tensor([width, height, width, height]))


def class_counts(records: Iterable[ImageRecord], task: str) -> Counter[str]:
    """Return how many labels each class of the task has: objects for boxes, images for classes."""
    return Counter(
        label.category if isinstance(label, BoxLabel) else label
        for record in records
        for label in record.labels.get(task, ())
    )


def balanced_class_weights(records: Sequence[ImageRecord], task: str, categories: Sequence[Category]) -> Tensor:
    """Return weights (K,) n / (K' * n_k) over the n records that are labeled for a classification task.

    K' counts the classes that occur, so that for one class an image the weights average 1 over the images. A class
    that never occurs has no n_k: its weight is 1, so that its negatives (multilabel) count like any.
    """
    counts = class_counts(records, task)
    num_labeled = sum(task in record.labels for record in records)
    num_present = sum(counts[category.name] > 0 for category in categories)
    return torch.tensor(
        [
            num_labeled / (num_present * counts[category.name]) if counts[category.name] else 1.0
            for category in categories
        ]
    )
