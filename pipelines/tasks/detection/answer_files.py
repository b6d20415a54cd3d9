"""Detections of many images as COCO results and as a table. Torch-free."""

from collections.abc import Iterable, Sequence
from typing import Any

from pipelines.tasks.answer_files import AnsweredImage, AnswerJson, AnswerList, AnswerTable, FileFormat

COCO_JSON = FileFormat(".coco.json", "application/json")


class CocoResults(AnswerList):
    """COCO's results list; each object also has the `file_name` of its image."""

    format = COCO_JSON

    def objects(self, image: AnsweredImage, answer: AnswerJson) -> Iterable[dict[str, Any]]:
        for found in answer["detections"]:
            yield {
                "image_id": image.image_id,
                "category_id": found["category_id"],
                "bbox": found["bbox_xywh"],
                "score": found["score"],
                "file_name": image.file_name,
            }


class DetectionTable(AnswerTable):
    """One row for each object, in pixels of the original image."""

    def columns(self) -> list[str]:
        return ["category_id", "label", "score", "x", "y", "width", "height"]

    def rows(self, answer: AnswerJson) -> Iterable[Sequence[Any]]:
        for found in answer["detections"]:
            yield [found["category_id"], found["label"], found["score"], *found["bbox_xywh"]]
