"""Classification: targets, predictions, scores, files and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from heads.base import ClassPrediction, ClassTarget
from pipelines.base.records import ImageRecord
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.classification.spec import ClassificationSpec
from pipelines.tasks.classification.tensors.charts import classification_charts
from pipelines.tasks.classification.tensors.class_scores import ClassScores
from pipelines.tasks.classification.tensors.class_weights import class_weights
from pipelines.tasks.classification.tensors.scores import score_multiclass, score_multilabel
from pipelines.tasks.classification.tensors.table import class_table
from pipelines.tasks.drawing import Drawing
from pipelines.tasks.labels import class_names
from pipelines.tasks.temperature import FittedTemperature, fit_exclusive, fit_independent
from pipelines.tasks.tensors.boxes import ResizedImage
from pipelines.tasks.tensors.runtime import Pairs, TaskRuntime
from pipelines.tasks.tensors.targets import class_position, only_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Setup = TaskSetup[ClassificationSpec]


class ClassificationRuntime(TaskRuntime[ClassificationSpec, ClassScores]):
    """Exactly one class, or any number of classes, per image."""

    output = ClassScores

    def encode(self, task: Setup, record: ImageRecord) -> ClassTarget:
        if not task.spec.is_multilabel:
            return ClassTarget(torch.tensor(class_position(task, record, only_name(task, record))))
        present = torch.zeros(len(task.categories))
        present[[class_position(task, record, name) for name in class_names(task.name, record)]] = 1.0
        return ClassTarget(present)

    def class_weights(self, task: Setup, records: Sequence[ImageRecord]) -> Tensor | None:
        return class_weights(task, records)

    def from_network(self, prediction: ClassPrediction, image: ResizedImage) -> ClassScores:
        return ClassScores.from_network(prediction)

    def answer(self, task: Setup, output: ClassScores) -> AnswerJson:
        return output.answer(task.categories)

    def score(
        self, task: Setup, pairs: Pairs[ClassScores], gallery: Pairs[ClassScores] | None = None
    ) -> dict[str, Any]:
        """Return the numbers of `score_multiclass` or `score_multilabel`."""
        scores, truths = _scores_and_truths(task, pairs)
        if task.spec.is_multilabel:
            return score_multilabel(task.categories, scores, truths, task.best_thresholds)
        return score_multiclass(task.categories, scores, truths.argmax(axis=1))

    def fit_temperature(self, task: Setup, pairs: Pairs[ClassScores]) -> FittedTemperature | None:
        """Return one temperature for all classes."""
        scores, truths = _scores_and_truths(task, pairs)
        if task.spec.is_multilabel:
            return fit_independent(scores.ravel(), truths.ravel())
        return fit_exclusive(scores, truths.argmax(axis=1))

    def predictions_file(self, task: Setup, pairs: Pairs[ClassScores]) -> bytes:
        return class_table(task, pairs).encode()

    def charts(self, name: str, result: Mapping[str, Any]) -> dict[str, Figure]:
        """Return the confusion matrix, the curves and the calibration, where any class has labels."""
        return classification_charts(name, result)

    def draw_target(self, task: Setup, target: ClassTarget) -> Drawing:
        """Return the classes of the image; those of a combined image with their weights below 1."""
        weights = dict(enumerate(target.labels.tolist())) if task.spec.is_multilabel else target.label_weights
        names = [
            task.categories[position].name + (f" {weight:.2f}" if weight < 1 else "")
            for position, weight in weights.items()
            if weight > 0
        ]
        return Drawing(caption=f"{task.name}: {', '.join(names) or 'none'}")


def _scores_and_truths(task: Setup, pairs: Pairs[ClassScores]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the scores (N, K) of N images, and which classes they have.

    Raises:
        ValueError: a class is unknown, or an image of a multiclass task has another number of classes than one.
    """
    scores = np.array([output.scores for _, output in pairs], dtype=np.float64).reshape(-1, len(task.categories))
    truths = np.zeros((len(pairs), len(task.categories)), dtype=bool)
    for row, (record, _) in enumerate(pairs):
        for label in class_names(task.name, record):
            if label not in task.positions:
                raise ValueError(
                    f"task {task.name!r}: {record.file_name} has the class {label!r}; the task has the classes "
                    f"{sorted(task.positions)}"
                )
            truths[row, task.positions[label]] = True
    if not task.spec.is_multilabel and (wrong := np.flatnonzero(truths.sum(axis=1) != 1)).size:
        record = pairs[int(wrong[0])][0]
        raise ValueError(
            f"task {task.name!r}: {record.file_name} has the classes {record.labels[task.name]}; it must have one"
        )
    return scores, truths


RUNTIME = ClassificationRuntime()
