"""Classification: what its tasks need and report. Torch-free."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.formats.layer import LabelKind
from pipelines.tasks.answer_files import AnswerJson, FileFormat
from pipelines.tasks.base import TaskKind
from pipelines.tasks.classification.analysis_views import classification_analyses
from pipelines.tasks.classification.answer_files import ScoreTable
from pipelines.tasks.classification.schemas import ClassificationAnswer, ClassificationResult
from pipelines.tasks.classification.spec import CLASSIFICATION_SPECS, ClassificationSpec
from pipelines.tasks.drawing import Drawing

if TYPE_CHECKING:
    from pipelines.tasks.evaluated_images import EvaluatedImages
    from pipelines.tasks.numpy_answer import NumpyFunction
    from pipelines.tasks.resampling import ScoredImages


class ClassificationKind(TaskKind[ClassificationSpec]):
    """Assigns classes to whole images."""

    name = "classification"
    specs = CLASSIFICATION_SPECS
    result = ClassificationResult
    answer = ClassificationAnswer
    metrics = ("accuracy", "balanced_accuracy", "macro_f1", "mAP", "top1_macro_recall")
    plotted_metrics = ("accuracy", "macro_f1", "mAP", "top1_macro_recall")
    class_columns = ("label", "support", "precision", "recall", "f1", "ap")
    plotted_class_columns = ("f1", "ap")
    predictions = FileFormat(".csv", "text/csv")
    answer_files = (ScoreTable,)
    counted_labels = "classes"
    answer_rows = "labels"

    def needed_labels(self, spec: ClassificationSpec) -> frozenset[LabelKind]:
        return frozenset({"classes"})

    def takes_many_classes(self, spec: ClassificationSpec) -> bool:
        return spec.is_multilabel

    def has_thresholds(self, spec: ClassificationSpec) -> bool:
        """Return whether classes are independent: of a multiclass task, the highest score counts."""
        return spec.is_multilabel

    def has_labels(self, spec: ClassificationSpec) -> bool:
        return True

    def main_metric(self, spec: ClassificationSpec) -> str:
        return "mAP" if spec.is_multilabel else "macro_f1"

    def scored_images(self, result: Mapping[str, Any], predictions: Path, ground_truth: Path | None) -> "ScoredImages":
        from pipelines.tasks.classification.resampling import ScoredClasses

        return ScoredClasses.read(predictions, result)

    def evaluated_images(
        self, result: Mapping[str, Any], predictions: Path, ground_truth: Path | None, worst: Path
    ) -> "EvaluatedImages":
        from pipelines.tasks.classification.evaluated_images import EvaluatedClasses

        return EvaluatedClasses.read(predictions, result)

    def analyses(self, result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        return classification_analyses(result)

    def table_caption(self, result: Mapping[str, Any]) -> str:
        error = (result.get("calibration") or {}).get("ece")
        return "" if error is None else f"expected calibration error {error:.3f}"

    def numpy_functions(self, spec: ClassificationSpec) -> "tuple[NumpyFunction, ...]":
        from pipelines.tasks.classification.numpy_answer import classification

        return (classification,)

    def draw(self, name: str, answer: AnswerJson) -> Drawing:
        """Return the best class as caption."""
        labels = answer["labels"]
        return Drawing(caption=f"{name}: {labels[0]['label']} {labels[0]['score']:.2f}" if labels else "")
