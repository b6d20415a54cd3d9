"""COCO instances are written: one JSON file for each split. Torch-free."""

import json
from typing import Any

from pipelines.base.records import BoxLabel
from pipelines.formats.writer import LabelWriter, WritableData, WrittenImage


class CocoWriter(LabelWriter):
    """Writes boxes with their area, crowd regions and identities; ids are those of the data."""

    IMAGES = "images/{split}"

    def write(self, data: WritableData) -> dict[str, Any]:
        """Write `annotations/instances_{split}.json`; the flag `difficult` is lost."""
        ids = {category.name: category.id for category in data.categories}
        for split, images in data.images.items():
            document = {
                "images": [_image(image) for image in images],
                "annotations": [
                    _annotation(image, box, ids[box.category], data.identity_field)
                    for image in images
                    for box in image.boxes
                ],
                "categories": [{"id": category.id, "name": category.name} for category in data.categories],
            }
            num_difficult = sum(box.is_difficult for image in images for box in image.boxes)
            data.count_lost("marks of difficult objects", num_difficult)
            data.write_text(f"annotations/instances_{split}.json", json.dumps(document))
        return {"format": "coco", "path": "annotations/instances_{split}.json"}


def _image(image: WrittenImage) -> dict[str, Any]:
    record = image.record
    return {"id": record.image_id, "file_name": image.file_name, "height": record.height, "width": record.width}


def _annotation(image: WrittenImage, box: BoxLabel, category_id: int, identity_field: str | None) -> dict[str, Any]:
    annotation = {
        "id": box.annotation_id,
        "image_id": image.record.image_id,
        "category_id": category_id,
        "bbox": list(box.bbox_xywh),
        "area": box.bbox_xywh[2] * box.bbox_xywh[3] if box.area is None else box.area,
        "iscrowd": int(box.is_crowd),
    }
    if identity_field is not None and box.identity is not None:
        annotation[identity_field] = box.identity
    return annotation
