"""COCO's detection numbers, by faster-coco-eval (the numbers of pycocotools, several times faster)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.base import BestThresholds
from pipelines.tasks.detection.schemas import COCO_NUMBERS
from pipelines.tasks.detection.tensors.coco_format import CocoFile, CocoRow
from pipelines.tasks.tensors.best_threshold import BoolArray, scores_at_best, without_threshold
from pipelines.tasks.tensors.outputs import FloatArray

RECALL_STEP = 5
"""Every fifth of COCO's 101 recall points is kept for the precision-recall curve."""


BEST_THRESHOLD_IOU = 0.5
"""A detection is right for the best threshold if COCO's evaluation matches it at this IoU."""


def score_coco(
    ground_truth: CocoFile, results: Sequence[CocoRow], best_thresholds: BestThresholds | None = None
) -> dict[str, Any]:
    """Return `{"coco": the twelve numbers, "per_class": [...]}` of a COCO file and a COCO results list.

    Every image of the file is scored, with or without results. Numbers without ground truth are None, of a class too;
    classes with ground truth and no detections have 0. No argument is changed.

    Args:
        ground_truth: instances of all images, with crowds.
        results: detections.
        best_thresholds: those found on val; None: find those of these images.

    Raises:
        ValueError: ids of images or categories are not unique, or a row names an unknown one.
    """
    images = _ranks("image", [image["id"] for image in ground_truth["images"]])
    categories = _ranks("category", [category["id"] for category in ground_truth["categories"]])
    boxes = _rows(ground_truth["annotations"], images, categories)
    found = _rows(results, images, categories)
    if not boxes:
        per_class = [_class_row(category, 0, None) | without_threshold() for category in ground_truth["categories"]]
        return {"coco": dict.fromkeys(COCO_NUMBERS), "per_class": per_class}
    scored = _evaluate(boxes, found, len(images), len(categories))
    # (IoU thresholds, recall points, classes, all areas, at most 100 detections)
    precision = scored.eval["precision"][:, :, :, 0, -1]
    numbers = {number: _defined(value) for number, value in zip(COCO_NUMBERS, scored.stats, strict=True)}
    counts = Counter(box["category_id"] for box in boxes if not box["iscrowd"])
    counted = _counted_detections(scored, boxes, found, len(categories))
    per_class = []
    for category in ground_truth["categories"]:
        rank = categories[category["id"]]
        row = _class_row(category, counts[rank], precision[:, :, rank - 1])
        per_class.append(row | scores_at_best(category["name"], *counted[rank], counts[rank], best_thresholds))
    return {"coco": numbers, "per_class": per_class}


def _ranks(what: str, ids: list[int]) -> dict[int, int]:
    """Number ids from 1 in ascending order: the scorer then never sees large ids, and keeps its order of ties."""
    ranks = {given: rank for rank, given in enumerate(sorted(set(ids)), start=1)}
    if len(ranks) != len(ids):
        twice = sorted(given for given, count in Counter(ids).items() if count > 1)
        raise ValueError(f"{what} ids {twice[:5]} occur more than once; scoring an image twice changes AP")
    return ranks


def _rows(rows: Sequence[CocoRow], images: dict[int, int], categories: dict[int, int]) -> list[CocoRow]:
    """Return what the scorer reads of annotations or results, with ids from 1 (it takes 0 for "not matched")."""
    try:
        return [
            {
                "id": number,
                "image_id": images[row["image_id"]],
                "category_id": categories[row["category_id"]],
                "bbox": row["bbox"],
                "area": _area(row),
                "iscrowd": row.get("iscrowd", 0),
                "score": row.get("score", 1.0),
            }
            for number, row in enumerate(rows, start=1)
        ]
    except KeyError as error:
        raise ValueError(f"a box names the image or category {error}, which the ground truth does not have") from error


def _area(row: CocoRow) -> float:
    """Return the area of the label; width x height for a detection, and in place of an area that is not positive."""
    area = 0.0 if "score" in row else float(row.get("area") or 0.0)
    return area if area > 0 else float(row["bbox"][2] * row["bbox"][3])


def _evaluate(boxes: list[CocoRow], found: list[CocoRow], num_images: int, num_categories: int) -> Any:
    from faster_coco_eval import COCO, COCOeval_faster

    images = [{"id": number} for number in range(1, num_images + 1)]
    categories = [{"id": number} for number in range(1, num_categories + 1)]
    sides = (COCO({"images": images, "annotations": rows, "categories": categories}) for rows in (boxes, found))
    evaluation = COCOeval_faster(*sides, iouType="bbox")
    evaluation.run()
    return evaluation


def _counted_detections(
    evaluation: Any, boxes: list[CocoRow], found: list[CocoRow], num_categories: int
) -> dict[int, tuple[FloatArray, BoolArray]]:
    """Return by category the scores (N,) of its detections, and whether each is right (N,).

    Detections that match a crowd count neither as right nor as wrong. Unlike in COCO's numbers, an image may have more
    than 100 detections of a class.

    Args:
        evaluation: one that has run; its parameters and matches are replaced.
        boxes, found: the rows that it has scored.
        num_categories: their ids are 1 to this number.
    """
    per_image = Counter((row["image_id"], row["category_id"]) for row in found)
    parameters = evaluation.params
    parameters.iouThrs = np.array([BEST_THRESHOLD_IOU])
    parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], parameters.areaRngLbl[:1]
    parameters.maxDets = [max(per_image.values(), default=1)]
    evaluation.evaluate()
    evaluation.accumulate()
    # "<id of the detection>_<id of the box>": with one IoU threshold, a detection has at most one match.
    matches = dict(pair.split("_") for pair in evaluation.eval["matched"])
    crowds = {str(box["id"]) for box in boxes if box["iscrowd"]}
    scores: dict[int, list[float]] = {category: [] for category in range(1, num_categories + 1)}
    is_right: dict[int, list[bool]] = {category: [] for category in scores}
    for row in found:
        match = matches.get(str(row["id"]))
        if match not in crowds:
            scores[row["category_id"]].append(row["score"])
            is_right[row["category_id"]].append(match is not None)
    return {category: (np.array(scores[category]), np.array(is_right[category], dtype=bool)) for category in scores}


def _defined(value: float) -> float | None:
    return None if value < 0 else float(value)


def _class_row(category: CocoRow, num_boxes: int, precision: NDArray[np.float64] | None) -> dict[str, Any]:
    """Return a class's entry; `precision` (T, R) is -1 everywhere, or None, without ground truth."""
    row = {"category_id": category["id"], "label": category["name"], "num_boxes": num_boxes}
    if precision is None or precision.min() < 0:
        return row | dict.fromkeys(("AP", "AP50", "precision_at_recall"))
    curve = precision[0, ::RECALL_STEP].tolist()
    return row | {"AP": float(precision.mean()), "AP50": float(precision[0].mean()), "precision_at_recall": curve}
