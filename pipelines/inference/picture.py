"""An answer drawn on its image, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from pipelines.pictures import draw_boxes
from pipelines.records import Category
from pipelines.spec.model import ModelSpec
from pipelines.spec.tasks import DetectionSpec


def draw_answer(
    image: Image.Image, answer: Mapping[str, Any], model: ModelSpec, categories: Mapping[str, Sequence[Category]]
) -> Image.Image:
    """Return a copy of the image with the boxes of all detection tasks and the best label of each other task.

    Args:
        image: as the predictor read it.
        answer: what the predictor said of it.
        model: the document's, whose tasks are drawn.
        categories: by task; a class has the same color in all pictures.
    """
    picture = image
    best_labels = {task: found["labels"][0] for task, found in answer["tasks"].items() if found.get("labels")}
    caption = ", ".join(f"{task}: {row['label']} {row['score']:.2f}" for task, row in best_labels.items())
    for task, spec in model.tasks.items():
        if not isinstance(spec, DetectionSpec):
            continue
        shown = answer["tasks"][task]["detections"]
        boxes = [(x, y, x + width, y + height) for x, y, width, height in (row["bbox_xywh"] for row in shown)]
        picture = draw_boxes(
            picture,
            boxes,
            [row["label"] for row in shown],
            [row["score"] for row in shown],
            classes=[category.name for category in categories[task]],
            caption=caption,
        )
    return picture
