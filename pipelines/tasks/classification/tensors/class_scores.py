"""Class scores of one image.

Legend: K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.base.records import Category
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.arrays import FloatArray
from pipelines.tasks.tensors.outputs import TaskOutput, require_shape, to_numpy

if TYPE_CHECKING:
    from heads.base import ClassPrediction


@dataclass(frozen=True)
class ClassScores(TaskOutput):
    """Scores (K,) in [0, 1] of one image: they add up to 1 (multiclass) or are independent (multilabel)."""

    scores: FloatArray

    def __post_init__(self) -> None:
        require_shape("scores", self.scores, (None,))

    @classmethod
    def from_network(cls, prediction: ClassPrediction) -> ClassScores:
        """Return what a head decoded."""
        return cls(to_numpy(prediction.scores))

    def is_finite(self) -> bool:
        """Return whether every score is finite."""
        return bool(np.isfinite(self.scores).all())

    def answer(self, categories: Sequence[Category]) -> AnswerJson:
        """Return the answer of the predict endpoint: all classes, best first."""
        scored = zip(categories, self.scores.tolist(), strict=True)
        labels = [{"label": category.name, "score": score} for category, score in scored]
        return {"labels": sorted(labels, key=lambda row: -row["score"])}
