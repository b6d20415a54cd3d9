"""Pictures with boxes, for people."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from heads.base import BoxTarget, ClassTarget, Target
from pipelines.data.datamodule import JobData
from pipelines.data.sample import Sample, SampleKey
from pipelines.spec.data import Split

GOLDEN_RATIO = 0.618034
"""Hues that are so far apart stay apart, however many follow."""

MIN_SHOWN_SIDE_PX = 640
"""Smaller samples are enlarged, so that names fit beside boxes."""

MIN_SHOWN_SCORE = 0.3
"""Detections below are many, and mostly wrong."""

Boxes = Tensor | Sequence[Sequence[float]]


def draw_boxes(
    image: Image.Image,
    boxes_xyxy: Boxes,
    labels: Sequence[str],
    scores: Sequence[float] | None = None,
    *,
    classes: Sequence[str] | None = None,
    caption: str = "",
) -> Image.Image:
    """Return a copy of the image with a frame and a name for each box, one colour a class.

    Args:
        image: any mode; the copy is RGB.
        boxes_xyxy: (N, 4) in pixels of the image.
        labels: N names; an empty one is not written.
        scores: N numbers that are written behind the names; boxes below `MIN_SHOWN_SCORE` are not drawn.
        classes: all classes in their order, which makes a class's colour the same in all pictures; default: those here.
        caption: written in the corner.
    """
    picture = image.convert("RGB")
    canvas = ImageDraw.Draw(picture, "RGBA")
    line_px = max(1, round(max(picture.size) / 320))
    font = ImageFont.load_default(size=max(10, max(picture.size) / 50))
    order = list(classes) if classes is not None else sorted(set(labels))
    for position, (box, label) in enumerate(zip(_rows(boxes_xyxy), labels, strict=True)):
        if scores is not None and scores[position] < MIN_SHOWN_SCORE:
            continue
        colour = class_colour(order.index(label) if label in order else len(order))
        canvas.rectangle(box, outline=(*colour, 255), width=line_px)
        text = label if scores is None else f"{label} {scores[position]:.2f}".strip()
        if text:
            _write(canvas, text, (box[0], box[1]), colour, font, picture.size)
    if caption:
        _write(canvas, caption, (0, picture.height), (40, 40, 40), font, picture.size)
    return picture


def class_colour(position: int) -> tuple[int, int, int]:
    """Return the RGB colour of the class at a position: neighbours differ clearly in hue."""
    red, green, blue = colorsys.hsv_to_rgb((0.02 + position * GOLDEN_RATIO) % 1.0, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


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


def _rows(boxes_xyxy: Boxes) -> list[tuple[float, float, float, float]]:
    rows = boxes_xyxy.tolist() if isinstance(boxes_xyxy, Tensor) else boxes_xyxy
    return [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in rows]


def _write(
    canvas: ImageDraw.ImageDraw,
    text: str,
    corner_xy: tuple[float, float],
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size_wh: tuple[int, int],
) -> None:
    """Write text above a corner on a ground of the colour, moved inside the picture where it does not fit."""
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = min(max(corner_xy[0], 0), max(size_wh[0] - width, 0))
    y = min(max(corner_xy[1] - height, 0), max(size_wh[1] - height, 0))
    canvas.rectangle((x, y, x + width, y + height), fill=(*colour, 190))
    is_bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    canvas.text((x + 2 - left, y + 2 - top), text, fill=(0, 0, 0) if is_bright else (255, 255, 255), font=font)
