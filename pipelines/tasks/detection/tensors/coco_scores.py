"""COCO's detection numbers, by faster-coco-eval (the numbers of pycocotools, several times faster)."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.detection.schemas import COCO_NUMBERS
from pipelines.tasks.detection.tensors.coco_format import CocoFile, CocoRow

RECALL_STEP = 5
"""Every fifth of COCO's 101 recall points is kept for the precision-recall curve."""


def score_coco(ground_truth: CocoFile, results: Sequence[CocoRow]) -> dict[str, Any]:
    """Return `{"coco": the twelve numbers, "per_class": [...]}` of a COCO file and a COCO results list.

    Every image of the file is scored, with or without results. Numbers without ground truth are None, of a class too;
    classes with ground truth and no detections have 0. Neither argument is changed.

    Raises:
        ValueError: ids of images or categories are not unique, or a row names an unknown one.
    """
    images = _ranks("image", [image["id"] for image in ground_truth["images"]])
    categories = _ranks("category", [category["id"] for category in ground_truth["categories"]])
    boxes = _rows(ground_truth["annotations"], images, categories)
    found = _rows(results, images, categories)
    if not boxes:
        per_class = [_class_row(category, 0, None) for category in ground_truth["categories"]]
        return {"coco": dict.fromkeys(COCO_NUMBERS), "per_class": per_class}
    scored = _evaluate(boxes, found, len(images), len(categories))
    # (IoU thresholds, recall points, classes, all areas, at most 100 detections)
    precision = scored.eval["precision"][:, :, :, 0, -1]
    counts = Counter(box["category_id"] for box in boxes if not box["iscrowd"])
    return {
        "coco": {number: _defined(value) for number, value in zip(COCO_NUMBERS, scored.stats, strict=True)},
        "per_class": [
            _class_row(category, counts[rank], precision[:, :, rank - 1])
            for category in ground_truth["categories"]
            for rank in [categories[category["id"]]]
        ],
    }


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


def _defined(value: float) -> float | None:
    return None if value < 0 else float(value)


def _class_row(category: CocoRow, num_boxes: int, precision: NDArray[np.float64] | None) -> dict[str, Any]:
    """Return a class's entry; `precision` (T, R) is -1 everywhere, or None, without ground truth."""
    row = {"category_id": category["id"], "label": category["name"], "num_boxes": num_boxes}
    if precision is None or precision.min() < 0:
        return row | dict.fromkeys(("AP", "AP50", "precision_at_recall"))
    curve = precision[0, ::RECALL_STEP].tolist()
    return row | {"AP": float(precision.mean()), "AP50": float(precision[0].mean()), "precision_at_recall": curve}
