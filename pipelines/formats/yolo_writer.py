"""YOLO data sets are written: a YAML file, and one text file of labels for each image. Torch-free."""

from typing import Any

import yaml

from pipelines.base.records import BoxLabel
from pipelines.formats.writer import LabelWriter, WritableData
from pipelines.formats.yolo_yaml import label_file_of


class YoloWriter(LabelWriter):
    """Writes boxes and classes; classes are numbered from 0 in their order."""

    IMAGES = "images/{split}"

    def keeps(self, text: str) -> bool:
        """Return whether the YAML file is read as it is written; PyYAML 6 changes the character U+0085."""
        return super().keeps(text) and yaml.load(_to_yaml(text), Loader=yaml.BaseLoader) == text

    def write(self, data: WritableData) -> dict[str, Any]:
        """Write `data.yaml` and `labels`; crowd regions, areas, identities and `difficult` are lost."""
        numbers = {category.name: number for number, category in enumerate(data.categories)}
        for split, images in data.images.items():
            for image in images:
                for box in image.boxes:
                    _count_lost(data, box)
                size = (image.record.width, image.record.height)
                rows = [_row(numbers[box.category], box, *size) for box in image.boxes if not box.is_crowd]
                data.write_text(label_file_of(f"images/{split}/{image.file_name}"), "".join(rows))
        splits = {split: f"images/{split}" for split in data.images}
        names = {number: name for name, number in numbers.items()}
        data.write_text("data.yaml", _to_yaml(splits | {"names": names}))
        return {"format": "yolo", "path": "data.yaml"}


def _to_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _count_lost(data: WritableData, box: BoxLabel) -> None:
    if box.is_crowd:
        data.count_lost("crowd regions")
        return
    data.count_lost("areas of objects", int(box.area is not None))
    data.count_lost("identities", int(box.identity is not None))
    data.count_lost("marks of difficult objects", int(box.is_difficult))


def _row(number: int, box: BoxLabel, image_width: int, image_height: int) -> str:
    x, y, width, height = box.bbox_xywh
    values = (
        (x + width / 2) / image_width,
        (y + height / 2) / image_height,
        width / image_width,
        height / image_height,
    )
    return f"{number} {' '.join(f'{value:.10g}' for value in values)}\n"
