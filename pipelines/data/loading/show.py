"""Draw samples of a data set with their targets."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from pipelines.base.pictures import draw_boxes, picture_name
from pipelines.base.records import Split
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import Sample, SampleKey
from pipelines.tasks.base import Drawing, TaskSetup
from pipelines.tasks.tensors.runtime import runtime_of

MIN_SHOWN_SIDE_PX = 640
"""Smaller samples are enlarged, so that names fit beside boxes."""


def show_samples(data: JobData, split: Split, count: int, out_dir: Path) -> list[Path]:
    """Write `count` pictures of a split with targets, as the model sees them, and return their paths.

    Train images are augmented as in epoch 0, the others have the eval transform. They are chosen evenly over the split.
    Crowd regions are marked, and classes of the image are written in the corner.
    """
    dataset = data.dataset(split, augmented=split == "train")
    count = min(count, len(dataset))
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in (number * len(dataset) // count for number in range(count)):
        sample = dataset[SampleKey(epoch=0, index=index)]
        path = out_dir / picture_name(f"{split}_{sample.info.image_id:06d}", sample.info.file_name)
        _draw_sample(data, sample).save(path)
        paths.append(path)
    return paths


def _draw_sample(data: JobData, sample: Sample) -> Image.Image:
    setups = {task: TaskSetup(task, spec, data.index.categories.get(task, [])) for task, spec in data.tasks.items()}
    drawings = [
        runtime_of(setups[task].spec).draw_target(setups[task], sample.targets[task]) for task in sample.targets
    ]
    height, width = sample.info.size_hw
    zoom = max(1.0, MIN_SHOWN_SIDE_PX / max(height, width))
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
