"""Draw samples of a data set with their targets."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from pipelines.base.pictures import FAST_PNG, draw_boxes, draw_sheet, picture_name
from pipelines.base.records import Split
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.image_dataset import ImageDataset
from pipelines.data.loading.sample import Sample, SampleKey
from pipelines.data.loading.transforms import TrainTransform
from pipelines.spec.augment import operations_of
from pipelines.spec.operations.base import OperationSpec
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.drawing import Drawing
from pipelines.tasks.tensors.runtime import runtime_of

MIN_SHOWN_SIDE_PX = 640
"""Smaller samples are enlarged, so that names fit beside boxes."""

SHEET_CELL_PX = 320
"""Longer side of the pictures of a sheet."""


def show_samples(data: JobData, split: Split, count: int, out_dir: Path, epoch: int = 0) -> list[Path]:
    """Write `count` pictures of a split with targets, as the model sees them, and return their paths.

    Train images are augmented as in `epoch`, the others have the eval transform. They are chosen evenly over the split.
    Crowd regions are marked, and classes of the image are written in the corner.
    """
    dataset = data.dataset(split, augmented=split == "train")
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in _chosen(len(dataset), count):
        sample = dataset[SampleKey(epoch, index)]
        path = out_dir / picture_name(f"{split}_{sample.info.image_id:06d}", sample.info.file_name)
        _draw_sample(data, sample, MIN_SHOWN_SIDE_PX).save(path, compress_level=FAST_PNG)
        paths.append(path)
    return paths


def show_sheet(data: JobData, count: int, out_dir: Path, epoch: int = 0) -> Path:
    """Write one picture of what each operation does to train images, and return its path.

    Each image is one row: unchanged, after each operation of `data.augment` alone, and after all of them. In the
    columns of single operations a probability is 1; the last column is what the model sees in `epoch`.
    """
    augmented = data.dataset("train", augmented=True)
    operations = operations_of(data.spec.augment)
    columns = [("unchanged", data.dataset("train", augmented=False))]
    columns += [(operation.op, _with_operations(augmented, data, [_certain(operation)])) for operation in operations]
    columns.append(("all", augmented))
    rows = [
        [_draw_sample(data, dataset[SampleKey(epoch, index)], SHEET_CELL_PX) for _, dataset in columns]
        for index in _chosen(len(augmented), count)
    ]
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / "sheet.png"
    draw_sheet([name for name, _ in columns], rows, SHEET_CELL_PX).save(path, compress_level=FAST_PNG)
    return path


def _chosen(available: int, count: int) -> list[int]:
    """Return at most `count` positions, evenly over the split."""
    count = min(count, available)
    return [number * available // count for number in range(count)]


def _with_operations(dataset: ImageDataset, data: JobData, operations: Sequence[OperationSpec]) -> ImageDataset:
    changed = copy(dataset)
    changed.transform = TrainTransform(data.spec.image_size, operations)
    return changed


def _certain(operation: OperationSpec) -> OperationSpec:
    return operation.model_copy(update={"p": 1.0}) if "p" in type(operation).model_fields else operation


def _draw_sample(data: JobData, sample: Sample, min_side_px: int) -> Image.Image:
    setups = {task: TaskSetup(task, spec, data.index.categories.get(task, [])) for task, spec in data.tasks.items()}
    drawings = [
        runtime_of(setups[task].spec).draw_target(setups[task], sample.targets[task]) for task in sample.targets
    ]
    height, width = sample.info.size_hw
    zoom = max(1.0, min_side_px / max(height, width))
    with_boxes = _with_different_boxes(drawings)
    boxes = torch.cat([torch.zeros(0, 4), *(torch.tensor(drawing.boxes_xyxy).reshape(-1, 4) for drawing in with_boxes)])
    picture = F.to_pil_image(sample.image.contiguous()).resize((round(width * zoom), round(height * zoom)))
    return draw_boxes(
        picture,
        boxes * zoom,
        [label for drawing in with_boxes for label in drawing.labels],
        classes=list(dict.fromkeys(category.name for setup in setups.values() for category in setup.categories)),
        caption="; ".join(drawing.caption for drawing in drawings if drawing.caption),
    )


def _with_different_boxes(drawings: Sequence[Drawing]) -> list[Drawing]:
    """Return the drawings with boxes, except those with the same boxes as an earlier one."""
    drawn: list[Drawing] = []
    for drawing in drawings:
        if drawing.boxes_xyxy is not None and all(drawing.boxes_xyxy != other.boxes_xyxy for other in drawn):
            drawn.append(drawing)
    return drawn
