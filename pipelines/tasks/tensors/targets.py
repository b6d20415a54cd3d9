"""Labels of one image as tensors that heads learn from.

Legend: N boxes.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from heads.base import BoxTarget
from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.records import BoxLabel, ImageRecord
from pipelines.tasks.base import TaskSetup

UNKNOWN = -1
"""Identity of an object or an image that has none, or one that is not in the training data."""


def class_position(task: TaskSetup[Any], record: ImageRecord, name: str) -> int:
    """Return the position of a class in the task's categories; raises DataError where it is not one of them."""
    position = task.positions.get(name)
    if position is None:
        raise DataError(
            FieldProblem(
                record.file_name,
                f"the label {name!r} of task {task.name!r} is not one of its classes {sorted(task.positions)}; "
                "correct the label, or map it with `classes` of the label layer",
            )
        )
    return position


def only_name(task: TaskSetup[Any], record: ImageRecord) -> str:
    """Return the only class or identity of an image; raises DataError where it has another number of them."""
    names = cast("list[str]", record.labels[task.name])
    if len(names) != 1:
        raise DataError(
            FieldProblem(
                record.file_name,
                f"task {task.name!r} has the classes {names} here; it takes exactly one per image: correct the label, "
                "or make the task `head: multilabel`",
            )
        )
    return names[0]


def box_target(
    record: ImageRecord, boxes: Sequence[BoxLabel], labels: Sequence[int], identities: Sequence[int]
) -> BoxTarget:
    """Return the boxes of a record, in their order, as xyxy in pixels of the original image, clipped to it."""
    boxes_xyxy = np.array([box.bbox_xywh for box in boxes], dtype=np.float64).reshape(-1, 4)
    boxes_xyxy[:, 2:] += boxes_xyxy[:, :2]
    np.clip(boxes_xyxy, 0, [record.width, record.height] * 2, out=boxes_xyxy)
    return BoxTarget(
        boxes_xyxy=torch.from_numpy(boxes_xyxy.astype(np.float32)),
        labels=torch.tensor(labels, dtype=torch.int64),
        is_crowd=torch.tensor([box.is_crowd for box in boxes], dtype=torch.bool),
        identities=torch.tensor(identities, dtype=torch.int64),
    )


def box_captions(target: BoxTarget, names: Sequence[str]) -> list[str]:
    """Return the text beside each box: its label, or '?' where it is unknown, and a mark for crowd regions."""
    rows = zip(target.labels.tolist(), target.is_crowd.tolist(), strict=True)
    return [(names[label] if label >= 0 else "?") + (" (crowd)" if is_crowd else "") for label, is_crowd in rows]
