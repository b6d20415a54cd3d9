"""Detection: what its tasks need and report. Torch-free."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.formats.layer import LabelKind
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.base import TaskKind
from pipelines.tasks.detection.analysis_views import detection_analyses
from pipelines.tasks.detection.answer_files import COCO_JSON, CocoResults, DetectionTable
from pipelines.tasks.detection.schemas import COCO_NUMBERS, DetectionAnswer, DetectionResult
from pipelines.tasks.detection.spec import DETECTION_SPECS, DetectionSpec
from pipelines.tasks.drawing import Drawing

if TYPE_CHECKING:
    from pipelines.tasks.evaluated_images import EvaluatedImages
    from pipelines.tasks.numpy_answer import NumpyFunction
    from pipelines.tasks.resampling import ScoredImages
    from pipelines.tasks.worst_images import WorstFiles


class DetectionKind(TaskKind[DetectionSpec]):
    """Finds objects as boxes with classes."""

    name = "detection"
    specs = DETECTION_SPECS
    result = DetectionResult
    answer = DetectionAnswer
    metrics = COCO_NUMBERS
    plotted_metrics = ("AP", "AP50", "AP75")
    class_columns = ("label", "num_boxes", "AP", "AP50", "f1_at_best", "best_threshold")
    plotted_class_columns = ("AP", "AP50")
    predictions = COCO_JSON
    ground_truth = COCO_JSON
    answer_files = (CocoResults, DetectionTable)
    counted_labels = "boxes"
    gives_boxes = True
    answer_rows = "detections"

    def needed_labels(self, spec: DetectionSpec) -> frozenset[LabelKind]:
        return frozenset({"boxes"})

    def has_thresholds(self, spec: DetectionSpec) -> bool:
        return True

    def has_labels(self, spec: DetectionSpec) -> bool:
        return True

    def main_metric(self, spec: DetectionSpec) -> str:
        return "AP"

    def numbers(self, result: Mapping[str, Any]) -> Mapping[str, float | None]:
        numbers: Mapping[str, float | None] = result["coco"]
        return numbers

    def analyses(self, result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        return detection_analyses(result)

    def table_caption(self, result: Mapping[str, Any]) -> str:
        """Return the three kinds of errors that cost most AP50."""
        errors = result.get("errors")
        if not errors:
            return ""
        worst = sorted(errors["count"], key=lambda name: -errors["cost"][name])[:3]
        listed = ", ".join(f"{name.replace('_', ' ')} {errors['cost'][name]:.3f}" for name in worst)
        return f"AP50 lost by errors: {listed}"

    def scored_images(self, result: Mapping[str, Any], predictions: Path, ground_truth: Path | None) -> "ScoredImages":
        from pipelines.tasks.detection.scoring.resampling import ScoredDetections

        assert ground_truth is not None
        return ScoredDetections.read(predictions, ground_truth)

    def worst_images(self, result: Mapping[str, Any], predictions: Path, ground_truth: Path | None) -> "WorstFiles":
        from pipelines.tasks.detection.scoring.worst_images import find_worst

        assert ground_truth is not None
        return find_worst(result, predictions, ground_truth)

    def evaluated_images(
        self, result: Mapping[str, Any], predictions: Path, ground_truth: Path | None, worst: Path
    ) -> "EvaluatedImages":
        from pipelines.tasks.detection.scoring.evaluated_images import EvaluatedDetections

        assert ground_truth is not None
        return EvaluatedDetections.read(result, predictions, ground_truth, worst)

    def numpy_functions(self, spec: DetectionSpec) -> "tuple[NumpyFunction, ...]":
        from pipelines.tasks.detection.numpy_answer import detection
        from pipelines.tasks.numpy_detections import all_objects, best_objects, non_max_suppression

        return (non_max_suppression, all_objects, best_objects, detection)

    def draw(self, name: str, answer: AnswerJson) -> Drawing:
        """Return the boxes with their labels and scores."""
        rows = answer["detections"]
        boxes = [(x, y, x + width, y + height) for x, y, width, height in (row["bbox_xywh"] for row in rows)]
        return Drawing(boxes, [row["label"] for row in rows], [row["score"] for row in rows])
