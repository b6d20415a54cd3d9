"""Predictions and ground truth as files of the run folder."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.coco_format import coco_ground_truth, coco_results, xyxy_to_xywh
from pipelines.evaluation.evaluate import identities_of
from pipelines.evaluation.labels import class_names
from pipelines.evaluation.predictions import ClassScores, Detections, Embeddings, ImagePredictions, TaskPrediction
from pipelines.records import Category, ImageRecord
from pipelines.run_folder.files import write_atomic
from pipelines.spec.tasks import ClassificationSpec, DetectionSpec, EmbeddingSpec, TaskSpec

Pairs = list[tuple[ImageRecord, Any]]


def write_predictions(
    folder: Path,
    name: str,
    task: TaskSpec,
    categories: Sequence[Category],
    records: Sequence[ImageRecord],
    predictions: Sequence[ImagePredictions],
    *,
    labeled_only: bool = True,
) -> Path:
    """Write what the model says for one task, and return the file.

    - detection: `<task>.coco.json`, a COCO results list. Scoring it against `ground_truth/<task>.coco.json` gives
      the numbers of result.json: nothing is rounded;
    - classification: `<task>.csv`: image_id, file_name, source, is_labeled (and the same under its old name,
      is_labelled), labels (joined by '|'), and a column
      `score:<class>` a class;
    - embedding: `<task>.npz`: embedding (N, D), image_id, annotation_id (-1: none), identity ('': unknown) and
      bbox_xywh (N, 4) in original pixels, of the whole image for an embedding of the image.

    Args:
        folder: `predictions/` of the run folder.
        name: Of the task.
        task: Its part of the document.
        categories: Of the task.
        records: They give the order, the file names and the labels.
        predictions: In any order; records without one are passed over.
        labeled_only: Leave out images that are not labeled for the task, as scoring does. False for new images.
    """
    by_image = {prediction.image_id: prediction.tasks for prediction in predictions}
    pairs = [
        (record, by_image[record.image_id][name])
        for record in records
        if name in by_image.get(record.image_id, {}) and (name in record.labels or not labeled_only)
    ]
    if isinstance(task, DetectionSpec):
        rows = coco_results(categories, ((record.image_id, found) for record, found in _of(Detections, name, pairs)))
        return _write(folder / f"{name}.coco.json", _json(rows))
    if isinstance(task, ClassificationSpec):
        return _write(folder / f"{name}.csv", _class_table(name, categories, _of(ClassScores, name, pairs)))
    if isinstance(task, EmbeddingSpec):
        return _write(folder / f"{name}.npz", _embedding_arrays(name, task, _of(Embeddings, name, pairs)))
    raise TypeError(f"task {name!r}: nothing is known about writing a {type(task).__name__}")


def write_ground_truth(
    folder: Path, name: str, task: TaskSpec, categories: Sequence[Category], records: Sequence[ImageRecord]
) -> Path | None:
    """Write `<task>.coco.json`, the boxes that a detection task is scored against, and return it.

    Other tasks have None: their predictions carry the labels.
    """
    if isinstance(task, DetectionSpec):
        return _write(folder / f"{name}.coco.json", _json(coco_ground_truth(name, categories, records)))
    return None


def _write(path: Path, content: bytes | str) -> Path:
    write_atomic(path, content)
    return path


def _json(document: Any) -> str:
    return json.dumps(document, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def _of(kind: type[TaskPrediction], name: str, pairs: Pairs) -> Pairs:
    for record, prediction in pairs:
        if not isinstance(prediction, kind):
            raise ValueError(
                f"task {name!r}: got {type(prediction).__name__} for image {record.image_id}; it wants {kind.__name__}"
            )
    return pairs


def _class_table(name: str, categories: Sequence[Category], pairs: list[tuple[ImageRecord, ClassScores]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    scores = [f"score:{category.name}" for category in categories]
    table.writerow(["image_id", "file_name", "source", "is_labeled", "is_labelled", "labels", *scores])
    for record, prediction in pairs:
        labels = class_names(name, record) if name in record.labels else []
        is_labeled = str(name in record.labels).lower()
        where = [record.image_id, record.file_name, record.source, is_labeled, is_labeled]
        table.writerow([*where, "|".join(labels), *prediction.scores.tolist()])
    return text.getvalue()


def _embedding_arrays(name: str, task: EmbeddingSpec, pairs: list[tuple[ImageRecord, Embeddings]]) -> bytes:
    embeddings = [np.zeros((0, task.dim), dtype=np.float32)]
    image_ids, annotation_ids = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    identities, boxes = [np.zeros(0, dtype=np.str_)], [np.zeros((0, 4))]
    for record, found in pairs:
        count = len(found.embeddings)
        is_known = name in record.labels and (task.of == "image" or found.annotation_ids is not None)
        embeddings.append(found.embeddings.astype(np.float32))
        image_ids.append(np.full(count, record.image_id))
        annotation_ids.append(_ids(found))
        identities.append(identities_of(name, task, record, found) if is_known else np.full(count, ""))
        whole = np.array([[0, 0, record.width, record.height]], dtype=np.float64)
        boxes.append(whole if found.boxes_xyxy is None else xyxy_to_xywh(found.boxes_xyxy))
    file = io.BytesIO()
    np.savez(
        file,
        embedding=np.concatenate(embeddings),
        image_id=np.concatenate(image_ids),
        annotation_id=np.concatenate(annotation_ids),
        identity=np.concatenate(identities),
        bbox_xywh=np.concatenate(boxes),
    )
    return file.getvalue()


def _ids(found: Embeddings) -> NDArray[np.int64]:
    if found.annotation_ids is None:
        return np.full(len(found.embeddings), -1)
    return found.annotation_ids.astype(np.int64)
