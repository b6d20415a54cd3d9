"""One case for every head of every kind of task: labeled records and predictions for them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from heads.base import Head, Prediction
from heads.create import create_head
from pipelines.base.records import BoxLabel, Category, ImageRecord
from pipelines.evaluation.predictions import ImagePredictions
from pipelines.tasks.base import TaskKind, TaskSetup, TaskSpec
from pipelines.tasks.kinds import TASK_SPECS, kind_of
from pipelines.tasks.tensors.outputs import TaskOutput
from pipelines.tasks.tensors.runtime import TaskRuntime, runtime_of

CATEGORIES = [Category(7, "A"), Category(3, "B"), Category(90, "C")]
INPUT_HW = (64, 96)
BOXES_XYXY = ((5.0, 6.0, 40.0, 50.0), (30.0, 8.0, 80.0, 60.0))
"""Labeled boxes in pixels of the network's input, which is half the size of the original image."""

CASES = [*((name, {}) for name in TASK_SPECS), ("embedding", {"of": "objects"}), ("embedding", {"gallery": "train"})]
"""Every head with its defaults, and settings that change what a task needs."""


@dataclass(frozen=True)
class Level:
    """Channels and geometry of a feature level."""

    channels: int
    stride: float
    offset_px: float = 0.0


LEVELS = {f"c{k}": Level(8, 2.0**k) for k in (3, 4, 5)} | {f"p{k}": Level(8, 2.0**k) for k in range(3, 8)}


@dataclass(frozen=True)
class HalvedImage:
    """An image of twice the size of the network's input."""

    original_hw: tuple[int, int] = (2 * INPUT_HW[0], 2 * INPUT_HW[1])
    scale_xy: tuple[float, float] = (0.5, 0.5)


@dataclass
class TaskCase:
    """One task with a new head, records that are labeled for it, and predictions for them."""

    spec: TaskSpec
    head: Head
    records: list[ImageRecord]
    outputs: dict[int, TaskOutput] = field(default_factory=dict)

    @property
    def setup(self) -> TaskSetup[Any]:
        return TaskSetup("task", self.spec, CATEGORIES)

    @property
    def kind(self) -> TaskKind[Any]:
        return kind_of(self.spec)

    @property
    def runtime(self) -> TaskRuntime[Any, Any]:
        return runtime_of(self.spec)

    @property
    def predictions(self) -> list[ImagePredictions]:
        return [ImagePredictions(image_id, {"task": output}) for image_id, output in self.outputs.items()]

    def network_prediction(self, seed: int) -> Prediction:
        """Return what the head decodes for random features."""
        boxes = [torch.tensor(BOXES_XYXY)] if self.head.needs_boxes else None
        with torch.no_grad():
            (prediction,) = self.head.decode(self.head(random_features(seed)), [INPUT_HW], boxes)
        assert isinstance(prediction, Prediction)
        return prediction


def random_features(seed: int) -> dict[str, torch.Tensor]:
    """Return all levels of one image."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(1, level.channels, *(-(-side // int(level.stride)) for side in INPUT_HW), generator=generator)
        for name, level in LEVELS.items()
    }


def make_record(spec: TaskSpec, number: int) -> ImageRecord:
    """Return an image with the kinds of labels that the task needs."""
    names = ["A", "B"] if number % 2 else ["B", "A"]
    labels: list[BoxLabel] | list[str] = names[:1]
    if "boxes" in kind_of(spec).needed_labels(spec):
        labels = [
            BoxLabel(10 * number + n, names[n], (2 * x1, 2 * y1, 2 * (x2 - x1), 2 * (y2 - y1)), identity=names[n])
            for n, (x1, y1, x2, y2) in enumerate(BOXES_XYXY)
        ]
    path = Path(f"{number}.png")
    height, width = HalvedImage().original_hw
    return ImageRecord(number, "s", "test", path.name, path, height, width, {"task": labels})


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def task_case(request: pytest.FixtureRequest) -> TaskCase:
    name, settings = request.param
    spec = TASK_SPECS[name](head=name, **settings)
    torch.manual_seed(0)
    head = create_head(spec, level_specs=LEVELS, num_classes=len(CATEGORIES)).eval()
    with torch.no_grad():
        # New detectors score everything below their threshold.
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    case = TaskCase(spec, head, [make_record(spec, number) for number in range(1, 5)])
    for record in case.records:
        output = case.runtime.from_network(case.network_prediction(record.image_id), HalvedImage())
        case.outputs[record.image_id] = case.runtime.with_labels(case.setup, output, record)
    return case
