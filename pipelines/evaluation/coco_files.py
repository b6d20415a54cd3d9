"""Score files of other programs: detections as a COCO results list against a COCO instances file. Torch-free."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.printable import is_encodable, shortened
from pipelines.data.dataset.checks.box_readings import other_readings
from pipelines.formats.box_numbers import ORDERS, UNITS, BoxNumbers
from pipelines.formats.json_files import parse_json
from pipelines.tasks.arrays import FloatArray
from pipelines.tasks.detection.scoring.boxes import CocoFile, CocoRow, FoundBoxes, boxes_xywh_of
from pipelines.tasks.detection.scoring.coco_scores import score_coco

RESULTS_ADVICE = "write a list of {image_id, category_id, bbox: [x, y, width, height], score}, as pycocotools reads it"
MAX_PIXELS = 1e100
"""Products of two such numbers are finite."""

TRUTH_ADVICE = "write a COCO instances file with the lists images, annotations and categories"


def score_files(predictions: Path, annotations: Path) -> dict[str, Any]:
    """Return the entry of result.json (see `DetectionResult`) that the detections of a file have.

    Best thresholds are those of the scored images.

    Raises:
        DataError: a file cannot be read, is not of its format, or the two do not fit together.
    """
    truth = read_ground_truth(annotations)
    found = read_results(predictions, truth, annotations)
    return {"kind": "detection", "num_images": len(truth["images"]), **score_coco(truth, found)}


def read_ground_truth(path: Path) -> CocoFile:
    """Return the content of a COCO instances file; raises DataError."""
    document = _read(path)
    if not isinstance(document, dict):
        raise _problem(path, f"is a list; {TRUTH_ADVICE}")
    for name in ("images", "annotations", "categories"):
        if not isinstance(document.get(name), list):
            raise _problem(path, f"has no list {name!r}; {TRUTH_ADVICE}")
    images, boxes, categories = (document[name] for name in ("images", "annotations", "categories"))
    _require(path, images, "images", "id", _is_id, "a whole number")
    _require(path, categories, "categories", "id", _is_id, "a whole number")
    _require(path, categories, "categories", "name", _is_name, "a text in UTF-8")
    _require_boxes(path, boxes, "annotations")
    _require(path, boxes, "annotations", "area", _is_area, "a finite number, or missing", is_optional=True)
    _require(path, boxes, "annotations", "iscrowd", _is_flag, "0 or 1, or missing", is_optional=True)
    _require_sides(path, "annotations", boxes_xywh_of(boxes), TRUTH_ADVICE)
    for name, rows in (("images", images), ("categories", categories)):
        ids = [row["id"] for row in rows]
        if len(set(ids)) < len(ids):
            repeated = Counter(ids).most_common(1)[0][0]
            raise _problem(path, f"the id {repeated} occurs more than once in {name}; each may occur only once")
    for row, name in (("image_id", "images"), ("category_id", "categories")):
        _require_known(path, "annotations", boxes, row, {entry["id"] for entry in document[name]}, f"its {name}")
    return document


def read_results(path: Path, truth: CocoFile, truth_path: Path) -> FoundBoxes:
    """Return the detections of a COCO results file that fit a ground truth; raises DataError."""
    rows = _read(path)
    if not isinstance(rows, list):
        raise _problem(path, f"is an object; {RESULTS_ADVICE}")
    _require_boxes(path, rows, "elements", RESULTS_ADVICE)
    _require(path, rows, "elements", "score", _is_finite, "a finite number", RESULTS_ADVICE)
    for field, name in (("image_id", "images"), ("category_id", "categories")):
        known = {entry["id"] for entry in truth[name]}
        _require_known(path, "elements", rows, field, known, f"the {name} of {truth_path}")
    found = FoundBoxes.from_rows(rows)
    _require_xywh(path, truth, found)
    return found


def _read(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise _problem(path, "does not exist") from None
    except OSError as error:
        raise _problem(path, f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise _problem(path, str(error)) from None


def _problem(path: Path, message: str) -> DataError:
    return DataError(FieldProblem(str(path), message))


def _is_id(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 1e300  # NaN is not


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and is_encodable(value)


def _is_area(value: Any) -> bool:
    return value is None or _is_finite(value)


def _is_flag(value: Any) -> bool:
    return value is None or (type(value) in (int, bool) and value in (0, 1))  # the text "0" would be a crowd


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(_is_finite(x) and abs(x) < MAX_PIXELS for x in value)


def _require_boxes(path: Path, rows: Sequence[CocoRow], what: str, advice: str = "") -> None:
    for field in ("image_id", "category_id"):
        _require(path, rows, what, field, _is_id, "a whole number", advice)
    _require(
        path,
        rows,
        what,
        "bbox",
        _is_box,
        f"a list of four finite numbers below {MAX_PIXELS:g}, [x, y, width, height]",
        advice,
    )


def _require(
    path: Path,
    rows: Sequence[CocoRow],
    what: str,
    field: str,
    is_valid: Callable[[Any], bool],
    wanted: str,
    advice: str = "",
    *,
    is_optional: bool = False,
) -> None:
    """Raise DataError where a row has no valid value of a field."""
    more = f"; {advice}" if advice else ""
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise _problem(path, f"{what}[{number}] is {shortened(repr(row))} and no object{more}")
        if field not in row:
            if is_optional:
                continue
            raise _problem(path, f"{what}[{number}] has no {field!r}{more}")
        if not is_valid(row[field]):
            raise _problem(
                path, f"{what}[{number}].{field} is {shortened(repr(row[field]))}; it must be {wanted}{more}"
            )


def _require_known(path: Path, what: str, rows: Sequence[CocoRow], field: str, known: set[int], where: str) -> None:
    unknown = [number for number, row in enumerate(rows) if row[field] not in known]
    if not unknown:
        return
    first = unknown[0]
    hint = ""
    if field == "category_id" and known and min(known) == 1 and min(row[field] for row in rows) == 0:
        hint = "; they seem to be counted from 0: add 1"
    elif field == "image_id":
        hint = "; are both files of the same split?"
    raise _problem(
        path,
        f"{what}[{first}].{field} is {rows[first][field]}, which is not among {where} ({_some(known)}); "
        f"{len(unknown)} of {len(rows)} are not{hint}",
    )


def _some(ids: set[int]) -> str:
    ordered = sorted(ids)
    return ", ".join(map(str, ordered[:5])) + (f" and {len(ordered) - 5} more" if len(ordered) > 5 else "")


def _require_xywh(path: Path, truth: CocoFile, found: FoundBoxes) -> None:
    """Raise DataError where boxes have negative sides, or make sense in another unit or order only."""
    sizes = {image["id"]: (image.get("width"), image.get("height")) for image in truth["images"]}
    is_sized = {image_id for image_id, size in sizes.items() if all(_is_finite(side) and side > 0 for side in size)}
    places = [place for place, image_id in enumerate(found.image_ids.tolist()) if image_id in is_sized]
    readings = []
    if places:
        sizes_N2 = np.array([sizes[image_id] for image_id in found.image_ids[places].tolist()], dtype=float)
        readings = other_readings(found.boxes_xywh[places], sizes_N2, BoxNumbers())
    if readings:
        reading = readings[0]
        place = places[reading.example]
        raise _problem(
            path,
            f"the boxes are not {BoxNumbers()}: {reading.num_odd} of {len(places)} make no sense, such as "
            f"elements[{place}].bbox {_box(found.boxes_xywh[place])}. They look like {ORDERS[reading.order]} in "
            f"{UNITS[reading.scale]}, which fits {reading.num_fitting}; {RESULTS_ADVICE}",
        )
    _require_sides(path, "elements", found.boxes_xywh, RESULTS_ADVICE)


def _require_sides(path: Path, what: str, boxes_xywh: FloatArray, advice: str) -> None:
    negative = np.flatnonzero((boxes_xywh[:, 2:] < 0).any(axis=1))
    if len(negative):
        place = int(negative[0])
        raise _problem(path, f"{what}[{place}].bbox {_box(boxes_xywh[place])} has a negative side; {advice}")


def _box(box_xywh: FloatArray) -> str:
    return "[" + ", ".join(f"{number:g}" for number in box_xywh.tolist()) + "]"
