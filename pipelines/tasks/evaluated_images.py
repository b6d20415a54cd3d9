"""The images of the evaluated split with their labels and predictions, each marked as right or as an error. Torch-free.

A mark joins a label and a prediction: both are there (`right`, or `confused` if their classes differ), or one is
missing (`missed`, `false_positive`). The marks of a split add up to the confusion matrix of result.json.

Legend: I images, M marks, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.base.suggestions import did_you_mean
from pipelines.tasks.arrays import BoolArray, FloatArray, IntArray
from pipelines.tasks.image_marks import NO_CLASS, ErrorOutcome, EvaluatedImage, ImageName, Order


@dataclass(frozen=True)
class Marks:
    """Image, class of the label and class of the prediction of each mark, (M,); `NO_CLASS` for one that is missing."""

    images: IntArray
    truths: IntArray
    predicted: IntArray

    def chosen(self, outcome: ErrorOutcome | None, truth: int | None, predicted: int | None) -> BoolArray:
        """Return a mask (M,) of the marks with an outcome, and the classes of a label and a prediction; None is any."""
        chosen = np.ones(len(self.images), dtype=bool)
        if outcome is not None:
            chosen &= self._has(outcome)
        for classes, wanted in ((self.truths, truth), (self.predicted, predicted)):
            if wanted is not None:
                chosen &= classes == wanted
        return chosen

    @property
    def is_error(self) -> BoolArray:
        """Mask (M,) of the marks that are errors."""
        found: BoolArray = self.truths != self.predicted
        return found

    def _has(self, outcome: ErrorOutcome) -> BoolArray:
        found: BoolArray = {
            "missed": self.predicted == NO_CLASS,
            "false_positive": self.truths == NO_CLASS,
            "confused": self.is_error & (self.truths != NO_CLASS) & (self.predicted != NO_CLASS),
        }[outcome]
        return found


class MarkedImages(ABC):
    """The images of a split, marked at one threshold.

    Attributes:
        names: I images.
        classes: K names.
        thresholds: score above which a prediction of each class counts; empty where the highest score counts.
        iou: from which a detection finds a label; None for predictions without boxes.
        marks: of all images.
        badness: (I,) images with a higher number are worse.
    """

    names: Sequence[ImageName]
    classes: Sequence[str]
    thresholds: Mapping[str, float]
    iou: float | None
    marks: Marks
    badness: FloatArray

    @abstractmethod
    def image(self, position: int) -> EvaluatedImage:
        """Return the image at a position."""

    def find(
        self, outcome: ErrorOutcome | None = None, label: str | None = None, predicted: str | None = None,
        order: Order = "worst",
    ) -> list[int]:  # fmt: skip
        """Return the positions of the images that have a mark of a kind; without conditions, of all images.

        Args:
            outcome: of the mark.
            label: class of its label.
            predicted: class of its prediction.
            order: worst first, or by file name.

        Raises:
            ValueError: a class does not exist.
        """
        chosen = np.arange(len(self.names))
        if (outcome, label, predicted) != (None, None, None):
            mask = self.marks.chosen(outcome, self._class(label), self._class(predicted))
            chosen = np.unique(self.marks.images[mask])
        by_name = sorted(chosen.tolist(), key=lambda position: self.names[position][1:])
        return by_name if order == "file" else sorted(by_name, key=lambda position: -self.badness[position])

    def num_errors(self) -> NDArray[np.int64]:
        """Return the number of errors of each image (I,)."""
        return np.bincount(self.marks.images[self.marks.is_error], minlength=len(self.names))

    def _class(self, name: str | None) -> int | None:
        if name is None:
            return None
        if name not in self.classes:
            advice = did_you_mean(name, list(self.classes)) or f"it has {', '.join(self.classes[:20])}"
            raise ValueError(f"the task has no class {name[:80]!r}; {advice}")
        return list(self.classes).index(name)


class EvaluatedImages(ABC):
    """The predictions of a run for the images of its evaluated split, with their labels.

    Attributes:
        names: I images.
    """

    names: Sequence[ImageName]

    @abstractmethod
    def marked(self, threshold: float | None) -> MarkedImages:
        """Return the images, marked at one threshold for all classes; None: as in the confusion matrix of result.json.

        Raises:
            ValueError: the task has no threshold.
        """
