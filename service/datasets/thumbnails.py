"""Small pictures of a data set with its labels."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.base.errors import DataError
from pipelines.base.pictures import draw_boxes
from pipelines.base.records import BoxLabel, DatasetIndex, ImageRecord
from pipelines.data.images import read_image
from pipelines.data.source_images import read_source_image
from pipelines.spec.job import JobSpec
from service.datasets.folder import DatasetFolder

COUNT = 24
SIDE_PX = 192
QUALITY = 80


def write_thumbnails(folder: DatasetFolder, pictures: Iterable[Image.Image]) -> int:
    """Write pictures as JPEG files, and return their number."""
    count = 0
    for count, picture in enumerate(pictures, start=1):
        path = folder.thumbnail(count - 1)
        path.parent.mkdir(exist_ok=True)
        picture.save(path, "JPEG", quality=QUALITY)
    return count


def labeled_pictures(job: JobSpec, index: DatasetIndex) -> Iterator[Image.Image]:
    """Yield some images of all splits with their boxes or classes; unreadable ones are left out."""
    records = [record for split in index.records.values() for record in _some(split, COUNT // len(index.records))]
    classes = {task: [category.name for category in found] for task, found in index.categories.items()}
    for record in records:
        try:
            image = read_source_image(record.path, record.source, job.data.sources[record.source])
        except DataError:
            continue
        yield _drawn(image, record, classes)


def plain_pictures(files: Path, names: Sequence[str]) -> Iterator[Image.Image]:
    """Yield some images without labels; unreadable ones are left out."""
    for name in _some(names, COUNT):
        try:
            yield _reduced(read_image(files / name, "apply"))[0]
        except DataError:
            continue


def _some(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most `count` items, evenly picked."""
    step = max(1, -(-len(items) // max(count, 1)))
    return [items[position] for position in range(0, len(items), step)]


def _reduced(image: Image.Image) -> tuple[Image.Image, float]:
    """Return a copy that fits a thumbnail, and its scale."""
    scale = min(1.0, SIDE_PX / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size), scale


def _drawn(image: Image.Image, record: ImageRecord, classes: dict[str, list[str]]) -> Image.Image:
    picture, scale = _reduced(image)
    for task, labels in record.labels.items():
        boxes = [label for label in labels if isinstance(label, BoxLabel)]
        words = [label for label in labels if isinstance(label, str)]
        corners = [_corners(box.bbox_xywh, scale) for box in boxes]
        names = [box.category for box in boxes]
        caption = ", ".join(words[:3])
        if boxes or caption:
            picture = draw_boxes(picture, corners, names, classes=classes.get(task), caption=caption)
    return picture


def _corners(bbox_xywh: tuple[float, float, float, float], scale: float) -> tuple[float, float, float, float]:
    x, y, width, height = bbox_xywh
    return x * scale, y * scale, (x + width) * scale, (y + height) * scale
