"""The objects in the outputs of an exported graph, with NumPy alone.

The source of these functions is copied into `inference.py` of exports, see `TaskKind.numpy_functions`.

Legend: N boxes.
"""

from typing import Any

import numpy as np


def non_max_suppression(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, task: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the boxes that remain, best first, and their scores.

    A box that overlaps a better one of its class is dropped or, with Soft-NMS, gets a lower score.

    Args:
        boxes: (N, 4), as x1, y1, x2, y2.
        scores, labels: (N,).
        task: section of the task in model.json.
    """
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    sigma = task.get("soft_nms_sigma")
    scores = scores.copy()
    rows: list[int] = []
    kept: list[float] = []
    while len(rows) < task["max_detections"] and scores.max(initial=0) > task["score_threshold"]:
        best = int(scores.argmax())
        rows.append(best)
        kept.append(float(scores[best]))
        sides = np.minimum(boxes[best, 2:], boxes[:, 2:]) - np.maximum(boxes[best, :2], boxes[:, :2])
        shared = np.prod(sides.clip(0), axis=1)
        iou = shared / (areas[best] + areas - shared).clip(1e-9) * (labels == labels[best])
        scores *= np.exp(-(iou**2) / sigma) if sigma else iou <= task["nms_iou"]
        scores[best] = 0
    return np.array(rows, dtype=int), np.array(kept)


def all_objects(
    name: str, outputs: dict[str, np.ndarray], model: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the boxes (N, 4), as x1, y1, x2, y2, the scores (N,) and the labels (N,) of the detection task `name`."""
    task = model["model"]["tasks"][name]
    boxes, scores = outputs[f"{name}.boxes"], outputs[f"{name}.scores"]
    if model["nms"] == "inside":
        return boxes, scores, outputs[f"{name}.labels"]
    scores = scores.reshape(-1, scores.shape[-1])
    boxes = boxes.reshape(len(scores), -1, 4)  # one box for each class, or one for all classes
    rows, labels = np.nonzero(scores > task["score_threshold"])
    scores, boxes = scores[rows, labels], boxes[rows, labels % boxes.shape[1]]
    scores = np.where((boxes[:, 2:] > boxes[:, :2]).all(axis=1), scores, 0)
    rows, scores = non_max_suppression(boxes, scores, labels, task)
    return boxes[rows], scores, labels[rows]


def best_objects(name: str, outputs: dict[str, np.ndarray], model: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of the detection task `name` whose scores are above the thresholds of their classes.

    Each has its `row` among `all_objects`, its `category`, its calibrated `score`, and `bbox_xywh`.
    """
    boxes, scores, labels = all_objects(name, outputs, model)
    odds_against = (1 / scores.astype(np.float64) - 1) ** (1 / model["temperatures"].get(name, 1))
    categories = [model["categories"][name][label] for label in labels]
    thresholds = {k: v for k, v in model["best_thresholds"].get(name, {}).items() if v is not None}
    default = np.median(list(thresholds.values()) or [0.5])
    found = []
    for row, (box, odds, category) in enumerate(zip(boxes, odds_against, categories, strict=True)):
        score = 1 / (1 + float(odds))
        if score > thresholds.get(category["name"], default):
            bbox_xywh = [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]
            found.append({"row": row, "category": category, "score": score, "bbox_xywh": bbox_xywh})
    return found
