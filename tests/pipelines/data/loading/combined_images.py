"""A source of given images, and operations that are always applied, for tests of combinations."""

from collections.abc import Sequence

import numpy as np
import torch

from heads.base import BoxTarget, Target
from pipelines.data.loading.planned_sample import PlannedSample
from pipelines.data.loading.transforms import TrainTransform, Transformed
from pipelines.spec.augment import OperationSpec
from pipelines.spec.operations.combining import CopyPasteSpec, CutmixSpec, MixupSpec, MosaicSpec

COMBINING: tuple[OperationSpec, ...] = (
    MosaicSpec(p=1.0),
    MixupSpec(p=1.0),
    CutmixSpec(p=1.0),
    CopyPasteSpec(p=1.0),
)


def box_target(boxes_xyxy: Sequence[Sequence[float]], labels: Sequence[int], crowd: Sequence[bool] = ()) -> BoxTarget:
    return BoxTarget(
        torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(crowd or [False] * len(labels), dtype=torch.bool),
        torch.tensor(labels, dtype=torch.int64) + 100,
    )


class Images:
    """A source that gives its samples in their order, whatever is drawn; it starts again at the end."""

    def __init__(self, *samples: PlannedSample) -> None:
        self.samples = samples
        self.count = 0

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, index: int) -> PlannedSample:
        self.count += 1
        return self.samples[(self.count - 1) % len(self.samples)]


def applied(
    operations: OperationSpec | Sequence[OperationSpec], seed: int, sample: PlannedSample, *others: PlannedSample
) -> Transformed:
    """Return the sample after operations with other images; the canvas is that of the sample."""
    chosen = [operations] if isinstance(operations, OperationSpec) else operations
    transform = TrainTransform(max(sample.canvas_hw), chosen)
    return transform(sample.image, sample.targets, np.random.default_rng(seed), Images(*others))


def plain(value: int, targets: dict[str, Target], size_hw: tuple[int, int] = (64, 64)) -> PlannedSample:
    return PlannedSample.start(torch.full((3, *size_hw), value, dtype=torch.uint8), targets, size_hw)
