"""The contract of a task kind: everything that depends on what a task predicts. Torch-free.

A kind is one folder with `kind.py`, which serves the document, the data checks and REST, and `tensors/runtime.py`,
which needs torch and is loaded when it is first used (see `pipelines.tasks.tensors.runtime`). It is registered by its
row in `pipelines.tasks.kinds`.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, create_model

from backbones.spec.section import Section
from heads.head_spec import HeadSpec
from heads.spec import HEAD_SPECS
from pipelines.base.records import Category
from pipelines.formats.layer import LabelKind
from pipelines.tasks.answer_files import AnswerFile, AnswerJson, FileFormat, PlainAnswers
from pipelines.tasks.drawing import Drawing

if TYPE_CHECKING:
    from pipelines.tasks.evaluated_images import EvaluatedImages
    from pipelines.tasks.numpy_answer import NumpyFunction
    from pipelines.tasks.resampling import ScoredImages
    from pipelines.tasks.stored_embeddings import StoredEmbeddings
    from pipelines.tasks.worst_images import WorstFiles

Share = Annotated[float, Field(ge=0, le=1)]
Total = Annotated[int, Field(ge=0)]


class TaskSpec(HeadSpec, Section):
    """Section of one task in the document."""

    weight: Annotated[float, Field(ge=0)] = Field(1.0, description="factor of the task's loss")


def add_head_settings(kind: type[TaskSpec]) -> tuple[type[TaskSpec], ...]:
    """Return a section for each head of a kind: the fields of the head and those of `kind`, which is the section of
    every task of the kind."""
    sections = tuple(_with_settings_of(head, kind) for head in HEAD_SPECS.values() if head.kind == kind.kind)
    for section in sections:
        # Pickle looks a class up by its name in its module.
        setattr(sys.modules[kind.__module__], section.__name__, section)
    return sections


def _with_settings_of(head: type[HeadSpec], kind: type[TaskSpec]) -> type[TaskSpec]:
    if issubclass(kind, head):
        return kind
    name = head.__name__.replace("HeadSpec", "Spec")
    bases: Any = (head, kind)
    return cast("type[TaskSpec]", create_model(name, __base__=bases, __module__=kind.__module__, __doc__=head.__doc__))


class TaskResult(Section):
    """Entry of one task in result.json; undefined numbers are null."""

    kind: str
    num_images: Total


class ClassAtBestThreshold(Section):
    """Numbers of one class at its best threshold, the score above which F1 is highest on val; null: it has none.

    Results of earlier versions lack these fields.
    """

    best_threshold: Share | None = Field(None, description="score above which predictions have the highest F1 on val")
    precision_at_best: Share | None = Field(None, description="precision above the best threshold, on this split")
    recall_at_best: Share | None = Field(None, description="recall above the best threshold, on this split")
    f1_at_best: Share | None = Field(None, description="F1 above the best threshold, on this split")


class CalibrationBin(Section):
    """Predictions whose confidences lie in one interval; without predictions, its means are null."""

    count: Total
    confidence: Share | None = Field(description="mean confidence")
    accuracy: Share | None = Field(description="share of right predictions")


class Calibration(Section):
    """Share of right predictions in 15 intervals of the confidence, of equal width from 0 to 1 (Guo et al. 2017)."""

    ece: Share | None = Field(
        description="expected calibration error: mean of |accuracy - confidence| over the intervals, by their counts"
    )
    bins: tuple[CalibrationBin, ...]


class TaskAnswer(BaseModel):
    """Prediction of one task for one image, as the predict endpoint returns it."""

    model_config = ConfigDict(frozen=True)


SpecT = TypeVar("SpecT", bound=TaskSpec)
BestThresholds = Mapping[str, float | None]
"""The best threshold of each class of a task by its name; see `ClassAtBestThreshold`."""


@dataclass(frozen=True)
class TaskSetup(Generic[SpecT]):
    """One task of a run.

    Attributes:
        name: the key of its labels and predictions.
        spec: its section of the document.
        categories: in the order of the labels.
        best_thresholds: found on val; scoring finds those of the scored images where they are None.
    """

    name: str
    spec: SpecT
    categories: Sequence[Category]
    best_thresholds: BestThresholds | None = None

    @cached_property
    def positions(self) -> dict[str, int]:
        """The position of each category, which is the label that the network learns, by name.

        Raises:
            ValueError: two categories share a name.
        """
        positions = {category.name: position for position, category in enumerate(self.categories)}
        if len(positions) != len(self.categories):
            names = sorted(category.name for category in self.categories)
            raise ValueError(f"task {self.name!r}: two categories share a name: {names}")
        return positions


class TaskKind(ABC, Generic[SpecT]):
    """The torch-free half of a kind, for the document, the data checks, the tables and REST.

    Attributes:
        name: the kind in result.json.
        specs: sections of the document, one for each head.
        result: schema of the entry in result.json.
        answer: schema of the prediction of one image.
        metrics: names of the numbers that tasks are scored by, in their order in tables; all are in [0, 1], and higher
            is better.
        plotted_metrics: those that the plot of metrics over epochs shows.
        class_columns: columns of the table by class: its name, the number of its labels, numbers.
        plotted_class_columns: the numbers among them that the bar chart by class shows.
        predictions: format of the files in `predictions/`.
        answer_files: files with the answers for new images.
        ground_truth: format of the files in `ground_truth/`; None where predictions hold the labels.
        counted_labels: the labels that the data report counts; for `identities` the categories of the task are those in
            the training split.
        gives_boxes: whether the kind predicts boxes, which tasks of other kinds may take; it has thresholds then.
        answer_rows: field of the answer that has a row for each object or class; None if it has no such field.
    """

    name: ClassVar[str]
    specs: ClassVar[tuple[type[TaskSpec], ...]]
    result: ClassVar[type[TaskResult]]
    answer: ClassVar[type[TaskAnswer]]
    metrics: ClassVar[tuple[str, ...]]
    plotted_metrics: ClassVar[tuple[str, ...]]
    class_columns: ClassVar[tuple[str, ...]]
    plotted_class_columns: ClassVar[tuple[str, ...]]
    predictions: ClassVar[FileFormat]
    answer_files: ClassVar[tuple[type[AnswerFile], ...]] = (PlainAnswers,)
    ground_truth: ClassVar[FileFormat | None] = None
    counted_labels: ClassVar[LabelKind]
    gives_boxes: ClassVar[bool] = False
    answer_rows: ClassVar[str | None] = None

    @property
    def learns_identities(self) -> bool:
        """True where the categories are the identities of the training split instead of the classes of the data."""
        return self.counted_labels == "identities"

    @abstractmethod
    def needed_labels(self, spec: SpecT) -> frozenset[LabelKind]:
        """Return the kinds of labels that every label layer of the task must give."""

    def identity_field(self, spec: SpecT) -> str | None:
        """Return the annotation field that names the identity of an object; None where objects have no identity."""
        return None

    def takes_many_classes(self, spec: SpecT) -> bool:
        """Return whether an image may have any number of classes, and not exactly one."""
        return False

    def labels_combined_images(self, spec: SpecT) -> bool:
        """Return whether an image that several labeled images are combined into is labeled too, see
        `Target.combined`."""
        return True

    def takes_boxes(self, spec: SpecT) -> bool:
        """Return whether the task makes predictions about the boxes of another task."""
        return False

    def box_source(self, spec: SpecT) -> str | None:
        """Return the name of the task whose boxes it takes, where the document names one."""
        return None

    def searches_training_split(self, spec: SpecT) -> bool:
        """Return whether scoring needs the predictions of the training split too."""
        return False

    def has_thresholds(self, spec: SpecT) -> bool:
        """Return whether a threshold selects rows of the answer, each of which then has a label and a score."""
        return False

    def has_labels(self, spec: SpecT) -> bool:
        """Return whether each row of the answer has a label and a score, so that classes select rows."""
        return False

    @abstractmethod
    def main_metric(self, spec: SpecT) -> str:
        """Return the metric that chooses the best checkpoint where the document has no `model.select`."""

    def numbers(self, result: Mapping[str, Any]) -> Mapping[str, float | None]:
        """Return the part of an entry in result.json that holds `metrics`."""
        return result

    def scored_images(
        self, result: Mapping[str, Any], predictions: Path, ground_truth: Path | None
    ) -> "ScoredImages | None":
        """Return the predictions of a run for comparisons with other runs; None for kinds that are not compared.

        Args:
            result: the entry in result.json.
            predictions: the task's file in `predictions/`.
            ground_truth: the task's file in `ground_truth/`, for kinds that have one.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is damaged, or lacks what a comparison needs.
        """
        return None

    def analyses(self, result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the analyses of an entry in result.json by name: the fields that `pipelines.spec.analyses` has beside
        those of `TaskAnalysis`."""
        return {}

    def worst_images(
        self, result: Mapping[str, Any], predictions: Path, ground_truth: Path | None
    ) -> "WorstFiles | None":
        """Return the images that cost most, and suspicious labels, of the files of a run (see `scored_images`); None
        for kinds without such a list."""
        return None

    def evaluated_images(
        self, result: Mapping[str, Any], predictions: Path, ground_truth: Path | None, worst: Path
    ) -> "EvaluatedImages | None":
        """Return the images of the files of a run (see `scored_images`, also for errors) with labels and predictions;
        None for kinds without such images. The task's file in `worst/` may be missing."""
        return None

    def stored_embeddings(self, predictions: Path) -> "StoredEmbeddings | None":
        """Return the embeddings of the files of a run (see `scored_images`, also for errors), among which others find
        neighbors; None for kinds without embeddings."""
        return None

    def table_caption(self, result: Mapping[str, Any]) -> str:
        """Return the text below the table of metrics."""
        return ""

    def with_rows(self, answer: AnswerJson, is_kept: Sequence[bool]) -> AnswerJson:
        """Return the answer with some of the rows of its field `answer_rows`, or as it is if it has no such field."""
        if self.answer_rows is None or self.answer_rows not in answer:
            return answer
        rows = zip(answer[self.answer_rows], is_kept, strict=True)
        return {**answer, self.answer_rows: [row for row, is_row_kept in rows if is_row_kept]}

    def numpy_functions(self, spec: SpecT) -> "tuple[NumpyFunction, ...]":
        """Return the functions that make the answer of a task without torch; the last one is the entry.

        Their source is copied into `inference.py` beside exported graphs, so that they only use each other, NumPy as
        `np`, and `Any`. The entry returns the answer as JSON, and has the parameters

        - `name`: of the task,
        - `outputs`: of the graph for one image, arrays by name, such as `cells.scores`; those whose name ends with
          `.boxes` are in pixels of the image as given, and clipped to it,
        - `model`: the content of `model.json`, see `ExportedVariant`.
        """
        from pipelines.tasks.numpy_answer import raw_outputs

        return (raw_outputs,)

    @abstractmethod
    def draw(self, name: str, answer: AnswerJson) -> Drawing:
        """Return the drawing of an answer of task `name`, in pixels of the image as given."""
