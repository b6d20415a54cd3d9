"""Scores of image classification.

Legend: N images, K classes. Average precision is torchmetrics': it is the area under the
steps of the precision-recall curve, without interpolation, in float32.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_average_precision

from pipelines.base.records import Category
from pipelines.tasks.arrays import BoolArray, FloatArray, ratio
from pipelines.tasks.base import BestThresholds
from pipelines.tasks.best_threshold import scores_at_best, without_threshold
from pipelines.tasks.calibration import calibration
from pipelines.tasks.classification.tensors.class_curves import class_curves, without_curves

MAX_CONFUSION_CLASSES = 100
"""Above this the confusion matrix and the curves would be most of result.json."""


def score_multiclass(categories: Sequence[Category], scores: FloatArray, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Return the scores of images that have exactly one class each.

    Args:
        categories: K of them.
        scores: (N, K) in [0, 1]; the highest is the prediction, the first of equal ones.
        labels: (N,) positions in the categories.

    `balanced_accuracy` is the mean recall over classes with support, `macro_f1` the mean over classes that have
    support or are predicted, `mAP` the mean one-against-all average precision over classes with support.
    """
    num_classes = len(categories)
    _require_scores(scores, (len(labels), num_classes))
    predicted = scores.argmax(axis=1) if len(labels) else np.zeros(0, dtype=np.int64)
    confusion = np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(
        num_classes, num_classes
    )
    support, hits = confusion.sum(axis=1), confusion.diagonal()
    recall = ratio(hits, support)
    truths = np.eye(num_classes, dtype=bool)[labels]
    per_class = {
        "support": support,
        "recall": recall,
        "precision": ratio(hits, confusion.sum(axis=0)),
        "f1": ratio(2 * hits, support + confusion.sum(axis=0)),
        "ap": _average_precision(scores, truths),
        "top1_support": support,
        "top1_recall": recall,
    }
    return {
        "accuracy": _mean(predicted == labels),
        "balanced_accuracy": _mean(recall),
        **_means(per_class),
        "per_class": [
            row | without_threshold() | curves | {"confusion": None}
            for row, curves in zip(_class_rows(categories, per_class), _curves(scores, truths), strict=True)
        ],
        "confusion_matrix": confusion.tolist() if num_classes <= MAX_CONFUSION_CLASSES else None,
        "calibration": calibration(scores.max(axis=1, initial=0.0), predicted == labels),
    }


def score_multilabel(
    categories: Sequence[Category],
    scores: FloatArray,
    truths: BoolArray,
    best_thresholds: BestThresholds | None = None,
) -> dict[str, Any]:
    """Return the scores of images that have any number of classes.

    Args:
        categories: K of them.
        scores: (N, K) in [0, 1]; above 0.5 is positive, except for the numbers at the best thresholds.
        truths: (N, K).
        best_thresholds: those found on val; None: find those of these images.

    `balanced_accuracy` is the mean over classes with positives and negatives of (recall + specificity) / 2;
    `top1_macro_recall` takes the images with exactly one class and the highest score of each: the mean over classes
    with such images. `accuracy` is None.
    """
    _require_scores(scores, truths.shape)
    positive = scores > 0.5
    hits, support, found = (x.sum(axis=0) for x in (positive & truths, truths, positive))
    recall = ratio(hits, support)
    specificity = ratio((~positive & ~truths).sum(axis=0), len(truths) - support)
    single = truths.sum(axis=1) == 1
    best = np.zeros_like(truths[single])
    if len(best):
        best[np.arange(len(best)), scores[single].argmax(axis=1)] = True
    top1_support = truths[single].sum(axis=0)
    per_class = {
        "support": support,
        "recall": recall,
        "precision": ratio(hits, found),
        "f1": ratio(2 * hits, support + found),
        "ap": _average_precision(scores, truths),
        "top1_support": top1_support,
        "top1_recall": ratio((best & truths[single]).sum(axis=0), top1_support),
    }
    return {
        "accuracy": None,
        "balanced_accuracy": _mean((recall + specificity) / 2),
        **_means(per_class),
        "per_class": [
            row
            | scores_at_best(row["label"], scores[:, k], truths[:, k], row["support"], best_thresholds)
            | curves
            | {"confusion": _confusion(positive[:, k], truths[:, k])}
            for k, (row, curves) in enumerate(
                zip(_class_rows(categories, per_class), _curves(scores, truths), strict=True)
            )
        ],
        "confusion_matrix": None,
        "calibration": calibration(scores.ravel(), truths.ravel()),
    }


def _curves(scores: FloatArray, truths: BoolArray) -> list[dict[str, Any]]:
    """Return `class_curves` of K classes, or nothing of many classes."""
    num_classes = truths.shape[1]
    if num_classes > MAX_CONFUSION_CLASSES:
        return [without_curves()] * num_classes
    return [class_curves(scores[:, k], truths[:, k]) for k in range(num_classes)]


def _confusion(positive: BoolArray, truth: BoolArray) -> list[list[int]]:
    """Return the matrix of one class: row truth, column prediction."""
    return [[int((positive[truth == row] == column).sum()) for column in (False, True)] for row in (False, True)]


def _require_scores(scores: FloatArray, shape: tuple[int, ...]) -> None:
    if scores.shape != shape:
        raise ValueError(f"scores: got the shape {scores.shape}; labels and categories need {shape}")
    # torchmetrics would treat other numbers as logits and apply a sigmoid without a warning.
    if scores.size and not (scores.min() >= 0 and scores.max() <= 1):
        raise ValueError(f"scores: got {scores.min()} .. {scores.max()}; they must be in [0, 1]")


def _average_precision(scores: FloatArray, truths: BoolArray) -> NDArray[np.float64]:
    """Return (K,), NaN for classes without positives."""
    result = np.full(truths.shape[1], np.nan)
    columns, labels = torch.from_numpy(scores), torch.from_numpy(truths.astype(np.int64))
    for k in np.flatnonzero(truths.any(axis=0)):
        result[k] = binary_average_precision(columns[:, k], labels[:, k], validate_args=False)
    # Shares in float32 may add up to a little more than 1, such as 29 times 1/29.
    bounded: NDArray[np.float64] = np.minimum(result, 1.0)
    return bounded


def _mean(values: NDArray[Any]) -> float | None:
    """Return the mean of the defined values."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def _means(per_class: dict[str, NDArray[Any]]) -> dict[str, float | None]:
    columns = {"macro_f1": "f1", "mAP": "ap", "top1_macro_recall": "top1_recall"}
    return {metric: _mean(per_class[column]) for metric, column in columns.items()}


def _class_rows(categories: Sequence[Category], per_class: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
    columns = {name: [None if np.isnan(v) else v for v in values.tolist()] for name, values in per_class.items()}
    return [
        {"category_id": category.id, "label": category.name} | {name: column[k] for name, column in columns.items()}
        for k, category in enumerate(categories)
    ]
