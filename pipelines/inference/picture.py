"""An answer drawn on its image."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from pipelines.base.pictures import MIN_SHOWN_SCORE, draw_boxes
from pipelines.base.records import Category
from pipelines.spec.model import ModelSpec
from pipelines.tasks.kinds import kind_of


def draw_answer(
    image: Image.Image,
    answer: Mapping[str, Any],
    model: ModelSpec,
    categories: Mapping[str, Sequence[Category]],
    *,
    min_score: float = MIN_SHOWN_SCORE,
) -> Image.Image:
    """Return a copy of the image with the boxes of all tasks that find any, and with the captions of the others.

    Args:
        image: as the predictor decoded it.
        answer: the predictor's answer for it.
        model: the document's, whose tasks are drawn.
        categories: by task; a class has the same color in all pictures.
        min_score: of boxes that are drawn; 0 for an answer that a threshold has selected.
    """
    drawings = {name: kind_of(model.tasks[name]).draw(name, found) for name, found in answer["tasks"].items()}
    caption = ", ".join(drawing.caption for drawing in drawings.values() if drawing.caption)
    picture = image
    for name in model.tasks:
        drawing = drawings[name]
        if drawing.boxes_xyxy is None:
            continue
        picture = draw_boxes(
            picture,
            drawing.boxes_xyxy,
            drawing.labels,
            drawing.scores,
            classes=[category.name for category in categories[name]],
            caption=caption,
            min_score=min_score,
        )
    return picture
