"""Refuse layers whose boxes have other units, or another order of numbers, than their format. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.data.dataset.checks.box_readings import Reading, other_readings
from pipelines.data.dataset.listing import Listing, ReadLayer
from pipelines.formats.box_numbers import ORDERS, UNIT_NAMES, UNITS, BoxNumbers

_ORDER_ADVICE = {
    "xywh": "width = x2 - x1 and height = y2 - y1, where the numbers are corners",
    "xyxy": "the second corner is the first one plus width and height, where the numbers are sizes",
    "cxcywh": "the center is the first corner plus half of width and height",
}


@dataclass
class _Boxes:
    """The boxes of one layer and split: their numbers as in the file, and their images."""

    read: ReadLayer
    numbers: list[tuple[float, ...]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)


def check_box_units(listing: Listing) -> None:
    """Report each layer whose boxes make sense in another reading only (see `other_readings`).

    All splits of a layer are judged together, because a split may have few boxes; if they can be what the format says,
    each split is judged on its own. Layers whose numbers the document declares are not judged.
    """
    by_layer: dict[int, list[_Boxes]] = {}
    for boxes in _boxes_by_layer(listing):
        by_layer.setdefault(id(boxes.read.layer), []).append(boxes)
    for of_layer in by_layer.values():
        if not _report(of_layer, listing) and len(of_layer) > 1:
            for boxes in of_layer:
                _report([boxes], listing)


def _boxes_by_layer(listing: Listing) -> list[_Boxes]:
    by_read: dict[int, _Boxes] = {}
    for image in listing.images:
        for read, labeled in image.layers:
            size_hw = (image.facts.height, image.facts.width) if image.facts is not None else labeled.size_hw
            if size_hw is None or read.layer.has_declared_numbers:
                continue
            boxes = by_read.setdefault(id(read), _Boxes(read))
            for box in labeled.boxes or ():
                boxes.numbers.append(read.layer.NUMBERS.of(box.bbox_xywh))
                boxes.sizes.append((size_hw[1], size_hw[0]))
                boxes.images.append(image.file_name)
    return list(by_read.values())


def _report(of_layer: Sequence[_Boxes], listing: Listing) -> bool:
    numbers = [box for boxes in of_layer for box in boxes.numbers]
    sizes = [size for boxes in of_layer for size in boxes.sizes]
    first = of_layer[0].read
    declared = first.layer.NUMBERS
    if not numbers:
        return False
    readings = other_readings(np.asarray(numbers, float), np.asarray(sizes, float), declared)
    if not readings:
        return False
    reading = readings[0]
    image = [name for boxes in of_layer for name in boxes.images][reading.example]
    shown = "[" + ", ".join(f"{number:g}" for number in numbers[reading.example]) + "]"
    width, height = sizes[reading.example]
    splits = " and ".join(boxes.read.split.split for boxes in of_layer)
    message = (
        f"the boxes of {splits} are not {declared}: {_reason(reading, len(numbers), declared)} "
        f"(for example {shown} in {image}, {width} x {height}). {_remedy(readings, declared)}."
        f"{_setting(first, reading)}"
    )
    listing.findings.append(first.finding("box_units", message))
    return True


def _setting(read: ReadLayer, reading: Reading) -> str:
    """Return what to write into the layer in place of converting the files; empty if the format has no such field."""
    if "unit" not in type(read.layer).model_fields:
        return ""
    place = f"the layer {read.layer.format!r} of data.sources.{read.split.source_name}.labels"
    if read.layer.format != "coco" or reading.scale > 1 or reading.order.startswith("y"):
        return f" If the numbers are right as they are, add unit: {UNIT_NAMES[read.layer.NUMBERS.scale]} to {place}"
    unit = "relative" if reading.scale else "pixels"
    declared = f" Or leave the file as it is and add bbox: {reading.order} and unit: {unit} to {place}"
    return f"{declared}; if the numbers are right, add unit: pixels only"


def _reason(reading: Reading, num_boxes: int, declared: BoxNumbers) -> str:
    odd = f"{reading.num_odd} of {num_boxes}"
    if reading.scale != declared.scale:
        if reading.scale == 1:
            return f"all numbers of {odd} are between 0 and 1"
        if reading.num_odd == num_boxes and reading.scale:
            return f"all numbers are between 0 and {reading.scale}"
    return f"{odd} have negative sides or leave their image by far"


def _remedy(readings: Sequence[Reading], declared: BoxNumbers) -> str:
    reading = readings[0]
    orders = " or ".join(ORDERS[reading.order] for reading in readings)
    advice = "" if reading.order == declared.order else f" ({_ORDER_ADVICE[declared.order]})"
    return (
        f"They look like {orders} in {UNITS[reading.scale]}, which fits {reading.num_fitting} boxes; write "
        f"{declared}{_conversion(reading.scale, declared.scale)}{advice}"
    )


def _conversion(scale: int, declared: int) -> str:
    """Return how numbers of one unit become those of another one; units are given by their scale."""
    if scale == declared:
        return ""
    if declared == 0:
        divided = "" if scale == 1 else f" and divide by {scale}"
        return f": multiply x and widths by the image's width, y and heights by its height{divided}"
    if scale == 0:
        return f": divide x and widths by the image's width, y and heights by its height, and multiply by {declared}"
    return f": multiply all numbers by {declared / scale:g}"
