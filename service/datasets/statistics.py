"""Statistics of the labels of a data set and of the findings of its check, as REST returns them."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipelines.base.causes import causes_of
from pipelines.base.findings import KINDS
from pipelines.base.records import BoxLabel, DatasetIndex
from pipelines.data.dataset.checks.report import DataReport
from service.datasets.folder import ClassCount, FindingGroup, SizeCount, TaskStatistics

MAX_CLASSES = 1000
MAX_EXAMPLES = 5
SIZE_EDGES_PX = (8, 16, 32, 64, 128, 256, 512)
"""Sizes of boxes are counted between these; the size of a box is the square root of its area."""


def task_statistics(index: DatasetIndex, tasks: Mapping[str, Mapping[str, Any]]) -> list[TaskStatistics]:
    """Return the labels of each task.

    Args:
        index: the labeled images.
        tasks: the section `tasks` of the report.
    """
    return [_statistics(name, task, _box_sizes(index, name)) for name, task in tasks.items()]


def finding_groups(report: DataReport, shown: Callable[[str], str]) -> list[FindingGroup]:
    """Return the findings by kind, errors first, with some causes in words.

    Args:
        report: the report of the check.
        shown: returns a message as clients may see it.
    """
    return [
        FindingGroup(
            kind=kind,
            title=KINDS[kind].title,
            severity="error" if any(finding.severity == "error" for finding in findings) else "warning",
            num_findings=len(findings),
            examples=[shown(cause.describe()) for cause in causes_of(findings)[:MAX_EXAMPLES]],
        )
        for kind, findings in report.by_kind().items()
    ]


def _statistics(name: str, task: Mapping[str, Any], box_sizes: list[SizeCount]) -> TaskStatistics:
    classes = [
        ClassCount(name=row["name"], num_labels={key: value for key, value in row.items() if key not in ("id", "name")})
        for row in task["classes"]
    ]
    return TaskStatistics(
        task=name,
        kind=task["kind"],
        num_labeled_images=task["images_and_boxes"]["labeled"],
        num_classes=len(classes),
        classes=classes[:MAX_CLASSES],
        box_sizes=box_sizes,
    )


def _box_sizes(index: DatasetIndex, task: str) -> list[SizeCount]:
    """Return the number of boxes by size; empty for a task without boxes."""
    counts = Counter((bisect_right(SIZE_EDGES_PX, size), split) for split, size in _sizes(index, task))
    if not counts:
        return []
    return [
        SizeCount(min_px=low, max_px=high, num_boxes={split: counts[position, split] for split in index.records})
        for position, (low, high) in enumerate(zip((0, *SIZE_EDGES_PX), (*SIZE_EDGES_PX, None), strict=True))
    ]


def _sizes(index: DatasetIndex, task: str) -> Iterator[tuple[str, float]]:
    for split, records in index.records.items():
        for record in records:
            for label in record.labels.get(task, ()):
                if isinstance(label, BoxLabel):
                    yield split, math.sqrt(label.bbox_xywh[2] * label.bbox_xywh[3])
