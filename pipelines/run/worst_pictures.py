"""The worst images of a scored split: a document, a contact sheet, and labels to review."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from pipelines.base.pictures import FAST_PNG, draw_boxes, draw_sheet
from pipelines.base.records import ImageRecord, Split
from pipelines.data.source_images import read_source_image
from pipelines.run.attempt import Attempt
from pipelines.run_folder.files import write_atomic
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.kinds import kind_of
from pipelines.tasks.labels import box_labels
from pipelines.tasks.worst_images import WorstImage, WorstImages

NUM_SHOWN = 6
CELL_PX = 640
FALSE_POSITIVE_RGB, MISSED_RGB = (235, 40, 30), (255, 215, 0)


def write_worst_images(attempt: Attempt, split: Split, results: Mapping[str, Any]) -> None:
    """Write `worst/<task>.json`, `worst/<task>.coco.json` and, unless `evaluation.plots` is false,
    `plots/<task>.worst.png`; on rank 0.

    Args:
        attempt: the attempt, whose run folder has the predictions and the ground truth.
        split: the scored split.
        results: the entry of each task in result.json.
    """
    run_dir = attempt.run_dir
    for name, task in attempt.job.model.tasks.items():
        kind = kind_of(task)
        labels = None if kind.ground_truth is None else run_dir.ground_truth / f"{name}{kind.ground_truth.suffix}"
        found = kind.worst_images(results[name], run_dir.predictions / f"{name}{kind.predictions.suffix}", labels)
        if found is None:
            continue
        run_dir.worst(name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(run_dir.worst(name), found.worst.model_dump_json(indent=1))
        write_atomic(run_dir.suspicions(name), json.dumps(found.suspicions, allow_nan=False, ensure_ascii=False))
        if found.worst.images and attempt.job.evaluation.plots:
            run_dir.plots.mkdir(parents=True, exist_ok=True)
            setup = TaskSetup(name, task, attempt.index.categories[name])
            sheet = _sheet(attempt, setup, split, found.worst)
            sheet.save(run_dir.plots / f"{name}.worst.png", compress_level=FAST_PNG)


def _sheet(attempt: Attempt, setup: TaskSetup[Any], split: Split, worst: WorstImages) -> Image.Image:
    """Return one row for each of the worst images: its ground truth, and its errors."""
    records = {record.image_id: record for record in attempt.index.records[split]}
    rows = [_row(attempt, setup, records[image.image_id], image) for image in worst.images[:NUM_SHOWN]]
    return draw_sheet(["ground truth", "false positives (red), missed (yellow)"], rows, CELL_PX)


def _row(attempt: Attempt, setup: TaskSetup[Any], record: ImageRecord, worst: WorstImage) -> list[Image.Image]:
    image = read_source_image(record.path, record.source, attempt.job.data.sources[record.source])
    zoom = CELL_PX / max(image.size)
    image = image.resize((max(1, round(image.width * zoom)), max(1, round(image.height * zoom))))
    labels = box_labels(setup.name, record)
    truth = draw_boxes(
        image,
        _corners([label.bbox_xywh for label in labels], zoom),
        [label.category for label in labels],
        classes=[category.name for category in setup.categories],
        caption=f"{worst.image_id}: {record.file_name}",
    )
    errors = draw_boxes(
        image,
        _corners([missed.bbox_xywh for missed in worst.missed], zoom),
        [missed.label for missed in worst.missed],
        color=MISSED_RGB,
    )
    errors = draw_boxes(
        errors,
        _corners([wrong.bbox_xywh for wrong in worst.false_positives], zoom),
        [wrong.label for wrong in worst.false_positives],
        [wrong.score for wrong in worst.false_positives],
        caption=f"costs {worst.cost:+.4f} AP",
        min_score=0.0,
        color=FALSE_POSITIVE_RGB,
    )
    return [truth, errors]


def _corners(boxes_xywh: Sequence[Sequence[float]], zoom: float) -> list[list[float]]:
    return [[zoom * x, zoom * y, zoom * (x + width), zoom * (y + height)] for x, y, width, height in boxes_xywh]
