"""The drawing of a task on a picture. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Drawing:
    """Boxes and text of one task on a picture.

    Attributes:
        boxes_xyxy: in pixels of the picture; None where the task has no boxes.
        labels: one for each box.
        scores: one for each box; None where boxes are labels.
        caption: text about the whole image.
    """

    boxes_xyxy: Sequence[Sequence[float]] | None = None
    labels: Sequence[str] = ()
    scores: Sequence[float] | None = None
    caption: str = ""
