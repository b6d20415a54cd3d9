"""Detection: targets, predictions, scores, files and charts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heads.base import BoxPrediction, BoxTarget
from pipelines.base.records import ImageRecord
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.detection.scoring.boxes import FoundBoxes
from pipelines.tasks.detection.scoring.coco_evaluation import CocoEvaluation
from pipelines.tasks.detection.scoring.coco_scores import score_coco
from pipelines.tasks.detection.spec import DetectionSpec
from pipelines.tasks.detection.tensors.analysis_charts import analysis_charts
from pipelines.tasks.detection.tensors.charts import MAX_CURVES, precision_recall
from pipelines.tasks.detection.tensors.coco_format import coco_ground_truth, coco_results, found_boxes
from pipelines.tasks.detection.tensors.detections import Detections
from pipelines.tasks.drawing import Drawing
from pipelines.tasks.labels import box_labels
from pipelines.tasks.temperature import FittedTemperature, fit_independent
from pipelines.tasks.tensors.boxes import ResizedImage
from pipelines.tasks.tensors.runtime import Pairs, TaskRuntime
from pipelines.tasks.tensors.targets import UNKNOWN, box_captions, box_target, class_position

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class DetectionRuntime(TaskRuntime[DetectionSpec, Detections]):
    """Objects as boxes with classes."""

    output = Detections

    def encode(self, task: TaskSetup[DetectionSpec], record: ImageRecord) -> BoxTarget:
        boxes = box_labels(task.name, record)
        positions = [class_position(task, record, box.category) for box in boxes]
        return box_target(record, boxes, positions, [UNKNOWN] * len(boxes))

    def from_network(self, prediction: BoxPrediction, image: ResizedImage) -> Detections:
        return Detections.from_network(prediction, image)

    def answer(self, task: TaskSetup[DetectionSpec], output: Detections) -> AnswerJson:
        return output.answer(task.categories)

    def score(
        self, task: TaskSetup[DetectionSpec], pairs: Pairs[Detections], gallery: Pairs[Detections] | None = None
    ) -> dict[str, Any]:
        """Return COCO's numbers and those of each class, with its best threshold."""
        truth = coco_ground_truth(task.name, task.categories, [record for record, _ in pairs])
        return score_coco(truth, _found(task, pairs), task.best_thresholds)

    def fit_temperature(self, task: TaskSetup[DetectionSpec], pairs: Pairs[Detections]) -> FittedTemperature | None:
        """Return the temperature of the scores of all detections that count at IoU 0.5."""
        truth = coco_ground_truth(task.name, task.categories, [record for record, _ in pairs])
        found = _found(task, pairs)
        evaluation = CocoEvaluation(truth, found)
        if not len(evaluation.truth.areas):
            return None
        counts, is_right = evaluation.matched
        return fit_independent(found.scores[counts], is_right[counts])

    def predictions_file(self, task: TaskSetup[DetectionSpec], pairs: Pairs[Detections]) -> bytes:
        """Return a COCO results list. Scoring it against the ground truth file gives the numbers of result.json:
        nothing is rounded. Each row also has the `file_name` of its image."""
        file_names = {record.image_id: record.file_name for record, _ in pairs}
        return _json([{**row, "file_name": file_names[row["image_id"]]} for row in coco_results(_found(task, pairs))])

    def ground_truth_file(self, task: TaskSetup[DetectionSpec], records: Sequence[ImageRecord]) -> bytes:
        """Return a COCO instances file of the boxes that the task is scored against."""
        return _json(coco_ground_truth(task.name, task.categories, records))

    def charts(self, name: str, result: Mapping[str, Any]) -> dict[str, Figure]:
        """Return precision over recall of the classes with most ground truth, and what the detector gets wrong; none
        without ground truth."""
        # sorted is stable: classes with equal counts keep the order of the categories.
        classes = sorted((row for row in result["per_class"] if row["num_boxes"]), key=lambda row: -row["num_boxes"])
        if not classes:
            return {}
        return {"precision_recall": precision_recall(name, classes[:MAX_CURVES]), **analysis_charts(name, result)}

    def draw_target(self, task: TaskSetup[DetectionSpec], target: BoxTarget) -> Drawing:
        names = [category.name for category in task.categories]
        return Drawing(target.boxes_xyxy.tolist(), box_captions(target, names))


def _found(task: TaskSetup[DetectionSpec], pairs: Pairs[Detections]) -> FoundBoxes:
    return found_boxes(task.categories, [(record.image_id, found) for record, found in pairs])


def _json(document: Any) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()


RUNTIME = DetectionRuntime()
