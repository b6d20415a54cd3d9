"""Pictures of a few images of a scored split: the ground truth beside the predictions."""

from collections.abc import Mapping, Sequence

from pipelines.base.pictures import FAST_PNG, MIN_SHOWN_SCORE, draw_boxes, draw_sheet
from pipelines.base.records import ImageRecord, Split
from pipelines.data.source_images import read_source_image
from pipelines.evaluation.predictions import ImagePredictions
from pipelines.evaluation.sample_choice import choose_samples, image_f1
from pipelines.run.attempt import Attempt
from pipelines.spec.tasks import Task
from pipelines.tasks.base import BestThresholds, TaskSetup
from pipelines.tasks.class_thresholds import ClassThresholds, class_thresholds
from pipelines.tasks.drawing import Drawing
from pipelines.tasks.kinds import kind_of
from pipelines.tasks.labels import box_labels
from pipelines.tasks.tensors.outputs import TaskOutput
from pipelines.tasks.tensors.runtime import runtime_of
from pipelines.tasks.thresholds import rows_above

NUM_SAMPLE_PICTURES = 8
CELL_PX = (480, 1280)
"""Smallest and largest longer side of an image on a picture."""


def write_sample_pictures(
    attempt: Attempt,
    split: Split,
    predictions: Sequence[ImagePredictions],
    best_thresholds: Mapping[str, BestThresholds],
) -> None:
    """Draw the labeled and the predicted boxes of a few images side by side, into plots/; on rank 0.

    Boxes with scores above the best threshold of their class are drawn. For each task with boxes, half of the images
    are those with the lowest F1 scores at IoU 0.5 over the detections that are drawn, the others those nearest to the
    median F1. Names are `<split>_<worst|typical>_<number>_<image id>_<task>.png`.

    Args:
        attempt: the attempt, whose run folder gets the pictures.
        split: the scored split.
        predictions: of its images.
        best_thresholds: by task; a task of a run that an earlier version trained may be missing.
    """
    records = {record.image_id: record for record in attempt.index.records[split]}
    for name, task in attempt.job.model.tasks.items():
        if not kind_of(task).gives_boxes:
            continue
        setup = TaskSetup(name, task, attempt.index.categories[name])
        unknown = dict.fromkeys((category.name for category in setup.categories), MIN_SHOWN_SCORE)
        thresholds = class_thresholds(best_thresholds.get(name, unknown))
        drawings = {
            prediction.image_id: _drawing(setup, prediction.tasks[name], thresholds)
            for prediction in predictions
            if name in records[prediction.image_id].labels
        }
        f1_scores = {image_id: _f1(name, records[image_id], drawing) for image_id, drawing in drawings.items()}
        for number, (why, image_id) in enumerate(choose_samples(f1_scores, NUM_SAMPLE_PICTURES), start=1):
            _write(
                attempt,
                setup,
                records[image_id],
                {"ground truth": _truth(setup, records[image_id]), "predictions": drawings[image_id]},
                stem=f"{split}_{why}_{number}_{image_id}_{name}",
                caption=f"{why}: F1 {f1_scores[image_id]:.2f}",
            )


def _drawing(setup: TaskSetup[Task], output: TaskOutput, thresholds: ClassThresholds) -> Drawing:
    kind = kind_of(setup.spec)
    answer = runtime_of(setup.spec).answer(setup, output)
    return kind.draw(setup.name, kind.with_rows(answer, rows_above(setup.spec, answer, thresholds)))


def _f1(task: str, record: ImageRecord, drawing: Drawing) -> float:
    """Return the F1 score of the detections that are drawn. Crowds and difficult objects need not be found."""
    objects = [label for label in box_labels(task, record) if not label.is_ignored_in_scoring]
    boxes, scores = drawing.boxes_xyxy or [], drawing.scores or []
    return image_f1(
        [(x, y, x + width, y + height) for x, y, width, height in (label.bbox_xywh for label in objects)],
        [label.category for label in objects],
        boxes,
        drawing.labels,
        scores,
    )


def _truth(setup: TaskSetup[Task], record: ImageRecord) -> Drawing:
    runtime = runtime_of(setup.spec)
    return runtime.draw_target(setup, runtime.encode(setup, record))


def _write(
    attempt: Attempt,
    setup: TaskSetup[Task],
    record: ImageRecord,
    drawings: Mapping[str, Drawing],
    *,
    stem: str,
    caption: str,
) -> None:
    image = read_source_image(record.path, record.source, attempt.job.data.sources[record.source])
    cell_px = min(max(*image.size, CELL_PX[0]), CELL_PX[1])
    zoom = max(1.0, cell_px / max(image.size))
    image = image.resize((round(image.width * zoom), round(image.height * zoom)))
    pictures = [
        draw_boxes(
            image,
            [[zoom * side for side in box] for box in drawing.boxes_xyxy or []],
            drawing.labels,
            drawing.scores,
            classes=[category.name for category in setup.categories],
            min_score=0.0,
        )
        for drawing in drawings.values()
    ]
    titles = [title if drawing.scores is None else f"{title} ({caption})" for title, drawing in drawings.items()]
    attempt.run_dir.plots.mkdir(parents=True, exist_ok=True)
    draw_sheet(titles, [pictures], cell_px).save(attempt.run_dir.plots / f"{stem}.png", compress_level=FAST_PNG)
