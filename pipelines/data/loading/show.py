"""Pictures of a data set, for people."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from heads.base import BoxTarget, ClassTarget, Target
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import Sample, SampleKey
from pipelines.pictures import draw_boxes
from pipelines.records import Split

MIN_SHOWN_SIDE_PX = 640
"""Smaller samples are enlarged, so that names fit beside boxes."""


def show_samples(data: JobData, split: Split, count: int, out_dir: Path) -> list[Path]:
    """Write `count` pictures of a split with targets, as the model sees them, and return their paths.

    Train images are those of epoch 0, augmented; the others have the eval transform. They are picked evenly over the
    split. Crowd regions are marked; classes of the image stand in the corner.
    """
    dataset = data.dataset(split, augmented=split == "train")
    count = min(count, len(dataset))
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in (number * len(dataset) // count for number in range(count)):
        sample = dataset[SampleKey(epoch=0, index=index)]
        path = out_dir / f"{split}_{sample.info.image_id:06d}_{Path(sample.info.file_name).stem}.png"
        _draw_sample(data, sample).save(path)
        paths.append(path)
    return paths


def _draw_sample(data: JobData, sample: Sample) -> Image.Image:
    names = {task: [category.name for category in data.index.categories.get(task, [])] for task in data.tasks}
    height, width = sample.info.size_hw
    zoom = max(1.0, MIN_SHOWN_SIDE_PX / max(height, width))
    boxes, labels = [torch.zeros(0, 4)], []
    for task, target in _drawn_boxes(sample.targets).items():
        boxes.append(target.boxes_xyxy * zoom)
        for label, is_crowd in zip(target.labels.tolist(), target.is_crowd.tolist(), strict=True):
            labels.append((names[task][label] if label >= 0 else "?") + (" (crowd)" if is_crowd else ""))
    captions = [
        f"{task}: {', '.join(_class_names(target, names[task])) or 'none'}"
        for task, target in sample.targets.items()
        if isinstance(target, ClassTarget)
    ]
    picture = F.to_pil_image(sample.image.contiguous()).resize((round(width * zoom), round(height * zoom)))
    classes = list(dict.fromkeys(name for task in names for name in names[task]))
    return draw_boxes(picture, torch.cat(boxes), labels, classes=classes, caption="; ".join(captions))


def _drawn_boxes(targets: dict[str, Target]) -> dict[str, BoxTarget]:
    """The box targets by task, without those whose boxes another task has already."""
    drawn: dict[str, BoxTarget] = {}
    for task, target in targets.items():
        if isinstance(target, BoxTarget) and not any(
            torch.equal(target.boxes_xyxy, other.boxes_xyxy) for other in drawn.values()
        ):
            drawn[task] = target
    return drawn


def _class_names(target: ClassTarget, names: Sequence[str]) -> list[str]:
    positions = target.labels.nonzero().flatten() if target.labels.ndim else target.labels.reshape(1)
    return [names[position] for position in positions.tolist()]
