"""The half of the contract of a task kind that needs torch: targets, predictions, scores, files and pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pipelines.base.records import ImageRecord
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.base import SpecT, TaskKind, TaskSetup, TaskSpec
from pipelines.tasks.drawing import Drawing
from pipelines.tasks.kinds import kind_of
from pipelines.tasks.temperature import FittedTemperature
from pipelines.tasks.tensors.boxes import ResizedImage
from pipelines.tasks.tensors.outputs import ScoredBoxes, TaskOutput

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from heads.base import Target

OutputT = TypeVar("OutputT", bound=TaskOutput)
Pairs = Sequence[tuple[ImageRecord, OutputT]]
"""Images, each with the prediction of one task."""


class TaskRuntime(ABC, Generic[SpecT, OutputT]):
    """The half of a kind that needs torch, for training, evaluation and prediction.

    `pipelines/tasks/<kind>/tensors/runtime.py` has one instance, by the name `RUNTIME`.

    Attributes:
        output: the one type of the kind's predictions.
    """

    output: ClassVar[type[TaskOutput]]

    @abstractmethod
    def encode(self, task: TaskSetup[SpecT], record: ImageRecord) -> Target:
        """Return the target for the head, given an image that is labeled for the task.

        Boxes are xyxy in pixels of the original, clipped to it, in the record's order: position i of a target is
        `record.labels[task.name][i]`.

        Raises:
            DataError: the labels do not fit the task.
        """

    def class_weights(self, task: TaskSetup[SpecT], records: Sequence[ImageRecord]) -> Tensor | None:
        """Return the weights (K,) of the classes in the loss, or None where they are equal.

        Args:
            task: the task.
            records: the training split.

        Raises:
            ConfigError: the document names a class that the data does not have.
        """
        return None

    @abstractmethod
    def from_network(self, prediction: Any, image: ResizedImage) -> OutputT:
        """Return the output of the head's `decode` for one image, in pixels of the original image."""

    def with_boxes(self, output: OutputT, boxes: ScoredBoxes) -> OutputT:
        """Return the output with its boxes, which another task predicted."""
        return output

    def with_labels(self, task: TaskSetup[SpecT], output: OutputT, record: ImageRecord) -> OutputT:
        """Return the output with its labels; tasks that take boxes are scored on those of the labels."""
        return output

    @abstractmethod
    def answer(self, task: TaskSetup[SpecT], output: OutputT) -> AnswerJson:
        """Return the answer of the predict endpoint, as the kind's `answer` schema describes it."""

    @abstractmethod
    def score(self, task: TaskSetup[SpecT], pairs: Pairs[OutputT], gallery: Pairs[OutputT] | None) -> dict[str, Any]:
        """Return the entry in result.json without `kind` and `num_images`: plain types, None where undefined.

        Args:
            task: the task.
            pairs: all images of the split that are labeled for the task.
            gallery: those of the training split, for a task that searches there.

        Raises:
            ValueError: labels or outputs do not fit the task.
        """

    def score_part(
        self, task: TaskSetup[SpecT], pairs: Pairs[OutputT], is_part: Sequence[bool], gallery: Pairs[OutputT] | None
    ) -> dict[str, Any]:
        """Return the same as `score` for some of the images.

        Args:
            task: the task.
            pairs: all images of the split that are labeled for the task.
            is_part: whether each of them is scored.
            gallery: see `score`.
        """
        return self.score(task, [pair for pair, is_kept in zip(pairs, is_part, strict=True) if is_kept], gallery)

    def fit_temperature(self, task: TaskSetup[SpecT], pairs: Pairs[OutputT]) -> FittedTemperature | None:
        """Return the temperature that calibrates the scores of the task on images that are labeled for it; None without
        scores."""
        return None

    @abstractmethod
    def predictions_file(self, task: TaskSetup[SpecT], pairs: Pairs[OutputT]) -> bytes:
        """Return the content of the task's file in `predictions/`; images may be unlabeled."""

    def ground_truth_file(self, task: TaskSetup[SpecT], records: Sequence[ImageRecord]) -> bytes:
        """Return the content of the task's file in `ground_truth/`, for kinds that have one."""
        raise NotImplementedError

    def charts(self, name: str, result: Mapping[str, Any]) -> dict[str, Figure]:
        """Return charts of an entry in result.json by name, beside the bars by class."""
        return {}

    @abstractmethod
    def draw_target(self, task: TaskSetup[SpecT], target: Any) -> Drawing:
        """Return the drawing of a target, in the target's pixels."""


def runtime_of(spec: TaskSpec) -> TaskRuntime[Any, Any]:
    """Return the runtime of a task's kind, given its section of the document."""
    return runtime_of_kind(kind_of(spec))


@cache
def runtime_of_kind(kind: TaskKind[Any]) -> TaskRuntime[Any, Any]:
    """Return the runtime of a kind, which is loaded when it is first used."""
    folder = type(kind).__module__.rpartition(".")[0]
    runtime: TaskRuntime[Any, Any] = import_module(f"{folder}.tensors.runtime").RUNTIME
    return runtime
