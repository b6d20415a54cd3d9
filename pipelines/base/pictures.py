"""Draw boxes with names on images. Torch-free."""

import colorsys
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Protocol

from PIL import Image, ImageDraw, ImageFont, ImageOps

GOLDEN_RATIO = 0.618034
"""Step between the hues of successive classes, with which hues stay distinct for any number of classes."""

FAST_PNG = 1
"""Compression level of PNG files: a third of the time of the default, for files that are a few percent larger."""

MIN_SHOWN_SCORE = 0.3
"""Detections with lower scores are not drawn: they are many, and mostly wrong."""


class Array(Protocol):
    """A tensor of torch or an array of numpy."""

    def tolist(self) -> Any:
        """Return the values as nested lists."""


Boxes = Array | Sequence[Sequence[float]]

_MAX_STEM_BYTES = 200
"""File systems allow 255 bytes for a name, of which the stem of a picture is a part."""


def picture_name(prefix: str, file_name: str) -> str:
    """Return the name of the PNG for an image file: a unique prefix, and the start of the image's own name as UTF-8.

    Line breaks and other characters that no terminal shows become `_`, because the path is printed as one line.
    """
    stem = PurePath(file_name).stem.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    shown = "".join(character if character.isprintable() else "_" for character in stem)
    return f"{prefix}_{shown.encode()[:_MAX_STEM_BYTES].decode('utf-8', 'ignore')}.png"


def draw_sheet(names: Sequence[str], rows: Sequence[Sequence[Image.Image]], cell_px: int) -> Image.Image:
    """Return rows of pictures as one picture, with a name above each column.

    Args:
        names: one for each column.
        rows: pictures of any size; larger ones are reduced.
        cell_px: width and height of the space for a picture.
    """
    header_px, gap_px = cell_px // 12, cell_px // 40
    fitted = [[ImageOps.contain(picture, (cell_px, cell_px)) for picture in row] for row in rows]
    heights = [max(picture.height for picture in row) for row in fitted]
    step_px = cell_px + gap_px
    size = (step_px * len(names) - gap_px, header_px + sum(heights) + gap_px * (len(rows) - 1))
    sheet = Image.new("RGB", size, "white")
    canvas, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=header_px * 0.6)
    for column, name in enumerate(names):
        canvas.text((column * step_px + gap_px, header_px * 0.1), name, fill="black", font=font)
    top = header_px
    for row, height in zip(fitted, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture, (column * step_px, top))
        top += height + gap_px
    return sheet


def draw_boxes(
    image: Image.Image,
    boxes_xyxy: Boxes,
    labels: Sequence[str],
    scores: Sequence[float] | None = None,
    *,
    classes: Sequence[str] | None = None,
    caption: str = "",
    min_score: float = MIN_SHOWN_SCORE,
    color: tuple[int, int, int] | None = None,
) -> Image.Image:
    """Return a copy of the image with a frame and a name for each box, in one color per class.

    Args:
        image: any mode; the copy is RGB.
        boxes_xyxy: (N, 4) in pixels of the image.
        labels: N names; empty ones are not written.
        scores: N numbers that are written after the names; boxes below `min_score` are not drawn.
        classes: all classes in their order, which gives a class the same color in all pictures; default: the labels.
        caption: text in the corner.
        min_score: 0 for boxes that a threshold has selected.
        color: RGB of all boxes instead of the colors of the classes.
    """
    picture = image.convert("RGB")
    canvas = ImageDraw.Draw(picture, "RGBA")
    line_px = max(1, round(max(picture.size) / 320))
    font = ImageFont.load_default(size=max(10, max(picture.size) / 50))
    order = list(classes) if classes is not None else sorted(set(labels))
    for position, (box, label) in enumerate(zip(_rows(boxes_xyxy), labels, strict=True)):
        if scores is not None and scores[position] < min_score:
            continue
        own_color = color or class_color(order.index(label) if label in order else len(order))
        canvas.rectangle(box, outline=(*own_color, 255), width=line_px)
        text = label if scores is None else f"{label} {scores[position]:.2f}".strip()
        if text:
            _write(canvas, text, (box[0], box[1]), own_color, font, picture.size)
    if caption:
        _write(canvas, caption, (0, picture.height), (40, 40, 40), font, picture.size)
    return picture


def class_color(position: int) -> tuple[int, int, int]:
    """Return the RGB color of the class at a position; successive classes differ clearly in hue."""
    red, green, blue = colorsys.hsv_to_rgb((0.02 + position * GOLDEN_RATIO) % 1.0, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _rows(boxes_xyxy: Boxes) -> list[tuple[float, float, float, float]]:
    rows = boxes_xyxy if isinstance(boxes_xyxy, Sequence) else boxes_xyxy.tolist()
    return [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in rows]


def _write(
    canvas: ImageDraw.ImageDraw,
    text: str,
    corner_xy: tuple[float, float],
    color: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size_wh: tuple[int, int],
) -> None:
    """Write text above a corner on a colored background, moved inside the picture if it does not fit."""
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = min(max(corner_xy[0], 0), max(size_wh[0] - width, 0))
    y = min(max(corner_xy[1] - height, 0), max(size_wh[1] - height, 0))
    canvas.rectangle((x, y, x + width, y + height), fill=(*color, 190))
    is_bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    canvas.text((x + 2 - left, y + 2 - top), text, fill=(0, 0, 0) if is_bright else (255, 255, 255), font=font)
