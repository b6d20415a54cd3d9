"""Scores of image classification for samples of the images. Torch-free.

Legend: I images, S samples, K classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.tasks.arrays import BoolArray, ratio
from pipelines.tasks.classification.class_table import MULTILABEL_THRESHOLD, ClassTable
from pipelines.tasks.resampling import Counts, Numbers, SampleScores, ScoredImages, mean_of_defined


class ScoredClasses(ScoredImages):
    """Class scores (I, K) of a split, and which classes each image has (I, K).

    Args:
        images: ids and file names.
        classes: K names.
        scores: (I, K), in the order of the images.
        truths: (I, K).
        is_multilabel: whether classes are independent.
    """

    def __init__(
        self, images: list[tuple[int, str]], classes: list[str], scores: Numbers, truths: BoolArray, is_multilabel: bool
    ) -> None:
        order = sorted(range(len(images)), key=images.__getitem__)
        self.images, self.classes = [images[row] for row in order], classes
        self._scores, self._truths, self._is_multilabel = scores[order], truths[order], is_multilabel
        names = np.array(classes, dtype=object)
        self.labels = {
            image_id: tuple(names[row]) for (image_id, _), row in zip(self.images, self._truths, strict=True)
        }
        self.num_rows = max(1, len(images))

    @classmethod
    def read(cls, predictions: Path, result: Mapping[str, Any]) -> "ScoredClasses":
        """Read the table of a run folder; raises ValueError if a class name contains '|'."""
        table = ClassTable.read(predictions, result)
        images = [(image.image_id, image.file_name) for image in table.images]
        return cls(images, table.classes, table.scores, table.truths, table.is_multilabel)

    def scores(self, counts: Counts) -> SampleScores:
        best = np.zeros_like(self._truths)
        if len(best):
            best[np.arange(len(best)), self._scores.argmax(axis=1)] = True
        positive = self._scores > MULTILABEL_THRESHOLD if self._is_multilabel else best
        hits, support, found = (counts @ rows for rows in (positive & self._truths, self._truths, positive))
        recall = ratio(hits, support)
        is_single = self._truths.sum(axis=1, keepdims=True) == 1
        single_recall = ratio(counts @ (best & self._truths & is_single), counts @ (self._truths & is_single))
        specificity = ratio(counts @ (~positive & ~self._truths), counts @ ~self._truths)
        precision = np.stack([self._average_precision(counts, k) for k in range(len(self.classes))], axis=1)
        per_class = {
            "precision": ratio(hits, found),
            "recall": recall,
            "f1": ratio(2 * hits, support + found),
            "ap": precision,
        }
        accuracy = ratio(hits.sum(axis=1), counts.sum(axis=1))
        balanced = (recall + specificity) / 2 if self._is_multilabel else recall
        metrics = {
            "accuracy": np.full(len(counts), np.nan) if self._is_multilabel else accuracy,
            "balanced_accuracy": mean_of_defined(balanced, axis=1),
            "macro_f1": mean_of_defined(per_class["f1"], axis=1),
            "mAP": mean_of_defined(precision, axis=1),
            "top1_macro_recall": mean_of_defined(single_recall, axis=1),
        }
        return SampleScores(
            metrics,
            {label: {name: values[:, k] for name, values in per_class.items()} for k, label in enumerate(self.classes)},
        )

    def _average_precision(self, counts: Counts, k: int) -> Numbers:
        """Return (S,), the area under the steps of precision over recall; NaN for samples without the class."""
        order = np.argsort(-self._scores[:, k], kind="stable")
        if not len(order):
            return np.full(len(counts), np.nan)
        weights = counts[:, order]
        # Equal scores are accepted together.
        last = np.flatnonzero(np.diff(self._scores[order, k], append=np.inf))
        accepted = weights.cumsum(axis=1)[:, last]
        hits = (weights * self._truths[order, k]).cumsum(axis=1)[:, last]
        steps = np.diff(hits, axis=1, prepend=0)
        return ratio((steps * hits / np.maximum(accepted, 1)).sum(axis=1), hits[:, -1])
