"""The images of a classification task with their classes and scores, each marked as right or wrong. Torch-free.

Legend: I images, M marks, K classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.tasks.arrays import BoolArray, FloatArray, IntArray
from pipelines.tasks.classification.class_table import MULTILABEL_THRESHOLD, ClassTable
from pipelines.tasks.evaluated_images import EvaluatedImages, MarkedImages, Marks
from pipelines.tasks.image_marks import NO_CLASS, EvaluatedImage, MarkedLabel, MarkedPrediction, outcome_of


class EvaluatedClasses(EvaluatedImages):
    """The classes of a split; of a multiclass task the highest score counts, and it has no threshold."""

    def __init__(self, table: ClassTable) -> None:
        self._table = table
        self.names = table.images

    @classmethod
    def read(cls, predictions: Path, result: Mapping[str, Any]) -> "EvaluatedClasses":
        """Read the table of a run folder; raises ValueError as `ClassTable.read`."""
        return cls(ClassTable.read(predictions, result))

    def marked(self, threshold: float | None) -> "MarkedClasses":
        scores, truths = self._table.scores, self._table.truths
        if self._table.is_multilabel:
            limit = MULTILABEL_THRESHOLD if threshold is None else threshold
            return MarkedClasses(self._table, scores > limit, dict.fromkeys(self._table.classes, limit))
        if threshold is not None:
            raise ValueError("a multiclass task predicts the class with the highest score; leave out the threshold")
        is_best = np.zeros_like(truths)
        if len(is_best):
            is_best[np.arange(len(is_best)), scores.argmax(axis=1)] = True
        return MarkedClasses(self._table, is_best, {})


class MarkedClasses(MarkedImages):
    """Images whose classes are marked; an image is worse the further a score is from what it should be.

    Args:
        is_predicted: (I, K).
    """

    iou = None

    def __init__(self, table: ClassTable, is_predicted: BoolArray, thresholds: Mapping[str, float]) -> None:
        self.names, self.classes, self.thresholds = table.images, table.classes, thresholds
        self._table, self._is_predicted = table, is_predicted
        self.marks = _marks_of_classes(table, is_predicted) if table.is_multilabel else _marks_of_images(table)
        self.badness = _distance(table)
        self._num_errors = self.num_errors()

    def image(self, position: int) -> EvaluatedImage:
        marks = self.marks
        of_image = np.flatnonzero(marks.images == position)
        pairs = [(int(marks.truths[mark]), int(marks.predicted[mark])) for mark in of_image]
        scores = self._table.scores[position].tolist()
        image_id, source, file_name = self.names[position]
        truth = [
            MarkedLabel(
                label=self.classes[true],
                outcome=outcome_of(true, found),
                predicted=self._name(found),
                score=scores[true],
            )
            for true, found in pairs
            if true != NO_CLASS
        ]
        predictions = [
            MarkedPrediction(
                label=self.classes[found], score=scores[found], outcome=outcome_of(true, found), truth=self._name(true)
            )
            for true, found in sorted(pairs, key=lambda pair: -scores[pair[1]])
            if found != NO_CLASS
        ]
        return EvaluatedImage(
            image_id=image_id, source=source, file_name=file_name, num_errors=int(self._num_errors[position]),
            truth=truth, predictions=predictions,
        )  # fmt: skip

    def _name(self, position: int) -> str | None:
        return None if position == NO_CLASS else self.classes[position]


def _marks_of_images(table: ClassTable) -> Marks:
    """Return one mark for each image: its class, and the class with the highest score."""
    return Marks(np.arange(len(table.images)), _argmax(table.truths), _argmax(table.scores))


def _marks_of_classes(table: ClassTable, is_predicted: BoolArray) -> Marks:
    """Return a mark for each class that an image has, or should have."""
    images, classes = np.nonzero(table.truths | is_predicted)
    return Marks(
        images,
        np.where(table.truths[images, classes], classes, NO_CLASS),
        np.where(is_predicted[images, classes], classes, NO_CLASS),
    )


def _argmax(values: FloatArray | BoolArray) -> IntArray:
    positions: IntArray = values.argmax(axis=1)
    return positions


def _distance(table: ClassTable) -> FloatArray:
    """Return the largest distance of a score of each image (I,) from 0 or 1, where it should be."""
    if not table.scores.size:
        return np.zeros(len(table.images))
    distance: FloatArray = np.abs(table.scores - table.truths).max(axis=1)
    return distance
