"""The four numbers of a box in label files: their order and their unit. Torch-free."""

from dataclasses import dataclass
from typing import Literal

Order = Literal["xywh", "xyxy", "cxcywh", "yxhw", "yxyx"]

ORDERS: dict[Order, str] = {
    "xywh": "[x, y, width, height]",
    "xyxy": "[x1, y1, x2, y2]",
    "cxcywh": "[center x, center y, width, height]",
    "yxhw": "[y, x, height, width]",
    "yxyx": "[y1, x1, y2, x2]",
}
"""The orders of the four numbers as messages show them."""

UNITS = {0: "pixels", 1: "parts of the image's size from 0 to 1", 100: "percent", 1000: "thousandths"}
"""The units by scale: the number that stands for the whole side of the image; 0 stands for pixels."""


UNIT_NAMES = {0: "pixels", 1: "relative", 100: "percent"}
"""The units as documents name them, by scale."""


@dataclass(frozen=True)
class BoxNumbers:
    """Meaning of the four numbers of a box in the files of a format.

    Attributes:
        order: their order.
        scale: their unit, a key of `UNITS`.
        is_inclusive: pixels count from 1, and the last pixel belongs to the box, as in VOC.
    """

    order: Order = "xywh"
    scale: int = 0
    is_inclusive: bool = False

    def of(self, bbox_xywh: tuple[float, float, float, float]) -> tuple[float, ...]:
        """Return the numbers of a box that is given in pixels, or relative to its image if `scale` is not 0."""
        x, y, width, height = (side * (self.scale or 1) for side in bbox_xywh)
        if self.order == "cxcywh":
            return (x + width / 2, y + height / 2, width, height)
        if self.order == "xyxy" and self.is_inclusive:
            return (x + 1, y + 1, x + width + (width <= 0), y + height + (height <= 0))
        return (x, y, x + width, y + height) if self.order == "xyxy" else (x, y, width, height)

    def __str__(self) -> str:
        """Return the meaning as messages show it."""
        return f"{ORDERS[self.order]} in {UNITS[self.scale]}"
