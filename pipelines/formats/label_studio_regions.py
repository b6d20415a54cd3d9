"""The regions of an annotation of Label Studio as boxes. Torch-free.

Positions and sizes are in percent of the image. The rotation is in degrees, clockwise, around the top left corner of a
rectangle, or the center of an ellipse.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any

from pipelines.formats.layer_content import FileBox
from pipelines.formats.numbers import is_number
from pipelines.formats.outlines import XYWH, ellipse_box, enclosing_box, rotated_box

_LABEL_KEYS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")


def boxes_of(
    results: list[Any], identity_fields: Collection[str], skipped: Counter[str]
) -> tuple[list[FileBox], list[str], tuple[int, int] | None]:
    """Return the boxes of an annotation, what is wrong with others, and the size of the image if it is given.

    A region with several labels gives one box for each. Results without a box are counted in `skipped` by their type.

    Args:
        results: the list `result` of the annotation.
        identity_fields: names of controls whose choice or text is an identity of the region.
        skipped: counts results that have no box.
    """
    boxes: list[FileBox] = []
    problems: list[str] = []
    size_hw: tuple[int, int] | None = None
    regions = [result for result in results if isinstance(result, dict) and isinstance(result.get("value"), dict)]
    relations = [result for result in results if isinstance(result, dict) and result.get("type") == "relation"]
    problems += ["a result has no 'value'"] * (len(results) - len(regions) - len(relations))
    if (
        len(
            targets := sorted({str(one["to_name"]) for one in regions if "to_name" in one and _has_shape(one["value"])})
        )
        > 1
    ):
        problems.append(
            f"regions belong to several images, {', '.join(targets)}; export one project for each image of a task"
        )
        return boxes, problems, size_hw
    identities = _identities(regions, identity_fields)
    labels_by_id = {_id(region): labels for region in regions if (labels := _labels(region["value"]))}
    has_box = {_id(region) for region in regions if _labels(region["value"]) and _has_shape(region["value"])}
    for region in regions:
        value, kind = region["value"], str(region.get("type"))
        size_hw = size_hw or _size(region)
        if not _has_shape(value):
            if _id(region) not in has_box:
                skipped[kind] += 1
            continue
        if not _labels(value) and _id(region) in has_box:
            continue
        labels = _labels(value) or labels_by_id.get(_id(region), [])
        box = _box_of(value, _size(region))
        if region.get("image_rotation") not in (None, 0):
            box = f"is drawn on the image turned by {region['image_rotation']} degrees; turn the image file instead"
        if not labels:
            problems.append(f"region {region.get('id')!r} of the type {kind!r} has no label")
        elif isinstance(box, str):
            problems.append(f"region {region.get('id')!r} {box}")
        else:
            own = identities.get(_id(region), {})
            boxes += [FileBox(None, label, box, identities=own, unit="relative") for label in labels]
    return boxes, problems, size_hw


def _id(region: dict[str, Any]) -> str:
    """Return the id that the results of one region share; a result without an id is a region of its own."""
    return str(region["id"]) if region.get("id") is not None else f"result {id(region)}"


def _labels(value: dict[str, Any]) -> list[str]:
    found: Any = next((value[key] for key in _LABEL_KEYS if value.get(key)), [])
    found = found if isinstance(found, list) else [found]
    return [label.strip() for label in found if isinstance(label, str) and label.strip()]


def _has_shape(value: dict[str, Any]) -> bool:
    return "points" in value or "radiusX" in value or ("width" in value and "height" in value and "x" in value)


def _identities(regions: list[dict[str, Any]], fields: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the identities of each region: the first choice or text of the controls with the names of the fields."""
    identities: dict[str, dict[str, str]] = {}
    for region in regions:
        if str(region.get("from_name")) not in fields:
            continue
        value = region["value"]
        given = value.get("choices") or value.get("text") or value.get("number")
        first = given[0] if isinstance(given, list) and given else given
        if isinstance(first, str | int | float) and str(first).strip():
            identities.setdefault(_id(region), {})[region["from_name"]] = str(first).strip()
    return identities


def _size(region: dict[str, Any]) -> tuple[int, int] | None:
    sides = (region.get("original_height"), region.get("original_width"))
    height, width = (0 if side is None or not is_number(side) else int(side) for side in sides)
    return (height, width) if height > 0 and width > 0 else None


def _box_of(value: dict[str, Any], size_hw: tuple[int, int] | None) -> XYWH | str:
    """Return the box that encloses a region, relative to the image, or what is wrong with it."""
    height, width = size_hw or (100, 100)
    rotation = _number(value.get("rotation", 0))
    if rotation is None:
        return f"has the rotation {value['rotation']!r}; write degrees"
    if rotation % 360 and size_hw is None:
        return "is rotated, but 'original_width' and 'original_height' are missing"
    if "points" in value:
        points = value["points"] if isinstance(value["points"], list) else []
        pairs = [point for point in points if isinstance(point, list) and len(point) == 2]
        numbers = [_number(side) for pair in pairs for side in pair]
        if len(pairs) < 3 or len(pairs) != len(points) or None in numbers:
            return "is a polygon without three points [x, y]"
        flat = [number for number in numbers if number is not None]
        return _relative(enclosing_box(flat[::2], flat[1::2]), 100, 100)
    keys = ("x", "y", "radiusX", "radiusY") if "radiusX" in value else ("x", "y", "width", "height")
    sides = [number for key in keys if (number := _number(value.get(key))) is not None]
    if len(sides) != 4:
        return f"has {', '.join(f'{key}={value.get(key)!r}' for key in keys)}; write finite numbers"
    x, y, first, second = sides
    x, first, y, second = x / 100 * width, first / 100 * width, y / 100 * height, second / 100 * height
    if "radiusX" in value:
        return _relative(ellipse_box((x, y), (first, second), rotation), height, width)
    box = (x, y, first, second)
    return _relative(rotated_box(box, rotation, (x, y)) if rotation % 360 else box, height, width)


def _relative(box_xywh: XYWH, height: float, width: float) -> XYWH:
    x, y, box_width, box_height = box_xywh
    return x / width, y / height, box_width / width, box_height / height


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None
