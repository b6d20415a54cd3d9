"""From predictions and labels to the scores of one task, on rank 0."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.coco import score_coco
from pipelines.evaluation.coco_format import coco_ground_truth, coco_results
from pipelines.evaluation.labels import box_labels, class_names, position_by_name
from pipelines.evaluation.predictions import ClassScores, Detections, Embeddings, ImagePredictions, pair_labeled
from pipelines.evaluation.retrieval import NamedEmbeddings, score_retrieval
from pipelines.records import Category, ImageRecord
from pipelines.spec.tasks import ClassificationSpec, DetectionSpec, EmbeddingSpec, TaskSpec


@dataclass(frozen=True)
class Gallery:
    """The training split, where a task's queries look for their nearest neighbors there."""

    records: Sequence[ImageRecord]
    predictions: Sequence[ImagePredictions]


def evaluate_task(
    name: str,
    task: TaskSpec,
    categories: Sequence[Category],
    records: Sequence[ImageRecord],
    predictions: Sequence[ImagePredictions],
    gallery: Gallery | None = None,
) -> dict[str, Any]:
    """Return the task's entry in result.json (see `pipelines.spec.result`): plain numbers, None where undefined.

    Args:
        name: Of the task, the key of labels and predictions.
        task: Its part of the document.
        categories: Of the task; positions are the labels that predictions carry.
        records: All images of the split that is scored. Only those labeled for the task count.
        predictions: One for each labeled image, in any order. Those of images that are not labeled are ignored.
        gallery: Of an embedding with `gallery: train`.

    Raises:
        ValueError: See `pair_labeled`; or labels that do not fit the task.
        NumericsError: A prediction is not finite.
    """
    if isinstance(task, DetectionSpec):
        return _detection(name, categories, records, predictions)
    if isinstance(task, ClassificationSpec):
        return _classification(name, task, categories, records, predictions)
    if isinstance(task, EmbeddingSpec):
        return _embedding(name, task, records, predictions, gallery)
    raise TypeError(f"task {name!r}: nothing is known about scoring a {type(task).__name__}")


def _detection(
    name: str,
    categories: Sequence[Category],
    records: Sequence[ImageRecord],
    predictions: Sequence[ImagePredictions],
) -> dict[str, Any]:
    pairs = pair_labeled(name, Detections, records, predictions)
    results = coco_results(categories, ((record.image_id, found) for record, found in pairs))
    scores = score_coco(coco_ground_truth(name, categories, records), results)
    return {"kind": "detection", "num_images": len(pairs), **scores}


def _classification(
    name: str,
    task: ClassificationSpec,
    categories: Sequence[Category],
    records: Sequence[ImageRecord],
    predictions: Sequence[ImagePredictions],
) -> dict[str, Any]:
    from pipelines.evaluation.classification import score_multiclass, score_multilabel

    pairs = pair_labeled(name, ClassScores, records, predictions)
    scores = np.array([prediction.scores for _, prediction in pairs], dtype=np.float64).reshape(-1, len(categories))
    positions = position_by_name(name, categories)
    truths = np.zeros((len(pairs), len(categories)), dtype=bool)
    for row, (record, _) in enumerate(pairs):
        for label in class_names(name, record):
            if label not in positions:
                raise ValueError(
                    f"task {name!r}: {record.file_name} has the class {label!r}; known are {sorted(positions)}"
                )
            truths[row, positions[label]] = True
    if task.is_multilabel:
        return {"kind": "classification", "num_images": len(pairs), **score_multilabel(categories, scores, truths)}
    if (wrong := np.flatnonzero(truths.sum(axis=1) != 1)).size:
        record = pairs[int(wrong[0])][0]
        raise ValueError(f"task {name!r}: {record.file_name} has the classes {record.labels[name]}; it must have one")
    labels = truths.argmax(axis=1)
    return {"kind": "classification", "num_images": len(pairs), **score_multiclass(categories, scores, labels)}


def _embedding(
    name: str,
    task: EmbeddingSpec,
    records: Sequence[ImageRecord],
    predictions: Sequence[ImagePredictions],
    gallery: Gallery | None,
) -> dict[str, Any]:
    queries, num_images = _named(name, task, records, predictions)
    if task.gallery == "self":
        scores = score_retrieval(queries)
    elif gallery is None:
        raise ValueError(f"task {name!r}: its gallery is the training split; hand its records and predictions in")
    else:
        scores = score_retrieval(queries, _named(name, task, gallery.records, gallery.predictions)[0])
    return {"kind": "embedding", "num_images": num_images, "gallery": task.gallery, **scores}


def _named(
    name: str, task: EmbeddingSpec, records: Sequence[ImageRecord], predictions: Sequence[ImagePredictions]
) -> tuple[NamedEmbeddings, int]:
    """Return all embeddings whose identity is known, in the order of the records, and the number of images."""
    pairs = pair_labeled(name, Embeddings, records, predictions)
    identities = [identities_of(name, task, record, prediction) for record, prediction in pairs]
    names = np.concatenate([np.zeros(0, dtype=np.str_), *identities])
    rows = np.concatenate(
        [np.zeros((0, task.dim), dtype=np.float32), *(prediction.embeddings for _, prediction in pairs)]
    )
    return NamedEmbeddings(rows[names != ""], names[names != ""]), len(pairs)


def identities_of(name: str, task: EmbeddingSpec, record: ImageRecord, prediction: Embeddings) -> NDArray[np.str_]:
    """Return (N,) identities of a labeled image's embeddings, '' where unknown; boxes that scoring ignores have none.

    Raises:
        ValueError: The objects that were embedded are not those of the labels: one is missing, twice there, or none
            of this image's.
    """
    if task.of == "image":
        if len(prediction.embeddings) != 1:
            raise ValueError(f"task {name!r}: {record.file_name} has {len(prediction.embeddings)} embeddings, not one")
        return prediction.identities if prediction.identities is not None else _first(class_names(name, record))
    if prediction.annotation_ids is None:
        raise ValueError(f"task {name!r}: objects of {record.file_name} are scored by annotation_ids; there are none")
    boxes = {label.annotation_id: label for label in box_labels(name, record)}
    embedded = prediction.annotation_ids.tolist()
    expected = {i for i, label in boxes.items() if label.identity is not None and not label.is_ignored_in_scoring}
    if len(set(embedded)) != len(embedded) or not expected <= set(embedded) <= boxes.keys():
        raise ValueError(
            f"task {name!r}: annotations {embedded[:10]} of {record.file_name} were embedded; each of "
            f"{sorted(expected)[:10]} must be, once"
        )
    named = prediction.identities
    if named is None:
        named = np.array([boxes[i].identity or "" for i in embedded], dtype=np.str_)
    return np.where([boxes[i].is_ignored_in_scoring for i in embedded], "", named) if embedded else named


def _first(names: list[str]) -> NDArray[np.str_]:
    return np.array(names[:1] or [""], dtype=np.str_)
