"""The rows of YOLO's label files. Torch-free.

A row is `class x_center y_center width height`, relative to the image, or `class x1 y1 x2 y2 x3 y3 ...` for a polygon.
The four corners of a rotated box are a polygon too. A polygon becomes the box that encloses it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.formats.layer_content import FileBox
from pipelines.formats.outlines import enclosing_box

_TOLERANCE = 0.01
"""Ultralytics accepts values that leave [0, 1] by this much; the boxes are clipped afterwards."""
COLUMNS = "'class x_center y_center width height', or 'class x1 y1 x2 y2 x3 y3 ...' for a polygon"


@dataclass(frozen=True)
class RowProblem:
    """Why a row is refused: the kind of the finding, and a message for all rows with the same problem."""

    kind: str
    message: str


def read_row(line: str, number: int, names: Mapping[int, str], *, has_keypoints: bool) -> FileBox | RowProblem:
    """Return the object of a row, which is not blank, with its line number as id, or what is wrong with it."""
    words = line.split()
    try:
        values = [float(word) for word in words] if "_" not in line else [math.nan]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        return RowProblem("broken_entry", f"is not a row of numbers; write {COLUMNS}")
    class_id, *coordinates = values
    if has_keypoints and len(coordinates) > 4:
        coordinates = coordinates[:4]
    if len(coordinates) == 5:
        return RowProblem(
            "broken_entry",
            "has 6 columns, as predictions with a confidence have; write 'class x_center y_center width height'",
        )
    if len(coordinates) != 4 and (len(coordinates) < 6 or len(coordinates) % 2):
        return RowProblem("broken_entry", f"has {len(words)} columns; write {COLUMNS}")
    if not class_id.is_integer():
        return RowProblem("broken_entry", f"has the class {words[0]}; write an integer")
    if int(class_id) not in names:
        message = f"class {int(class_id)} is not declared; 'names' has {_shown(names)}"
        return RowProblem("unknown_category", message)
    if min(coordinates) < -_TOLERANCE or max(coordinates) > 1 + _TOLERANCE:
        message = (
            "has values outside of [0, 1]; divide x and width by the width of the image, and y and height by its height"
        )
        return RowProblem("broken_entry", message)
    if len(coordinates) == 4:
        x_center, y_center, width, height = coordinates
        bbox_xywh = (x_center - width / 2, y_center - height / 2, width, height)
    else:
        bbox_xywh = enclosing_box(coordinates[::2], coordinates[1::2])
    return FileBox(f"line {number}", names[int(class_id)], bbox_xywh, unit="relative")


def _shown(names: Mapping[int, str]) -> str:
    shown = ", ".join(f"{class_id} ({name})" for class_id, name in list(names.items())[:10])
    return shown + (", ..." if len(names) > 10 else "")
