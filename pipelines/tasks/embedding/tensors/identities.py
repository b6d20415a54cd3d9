"""Identities of embeddings, taken from the labels."""

import numpy as np
from numpy.typing import NDArray

from pipelines.base.records import ImageRecord
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.embedding.retrieval import NamedEmbeddings
from pipelines.tasks.embedding.spec import EmbeddingSpec
from pipelines.tasks.embedding.tensors.embeddings import Embeddings
from pipelines.tasks.labels import box_labels, class_names
from pipelines.tasks.tensors.runtime import Pairs


def identities_of(task: TaskSetup[EmbeddingSpec], record: ImageRecord, output: Embeddings) -> NDArray[np.str_]:
    """Return the identities (N,) of a labeled image's embeddings: '' if unknown or if scoring ignores the box.

    Raises:
        ValueError: the embedded objects do not match the labels: one is missing, occurs twice, or belongs to another
            image.
    """
    if task.spec.of == "image":
        if len(output.embeddings) != 1:
            count = len(output.embeddings)
            raise ValueError(f"task {task.name!r}: {record.file_name} has {count} embeddings instead of one")
        if output.identities is not None:
            return output.identities
        return np.array(class_names(task.name, record)[:1] or [""], dtype=np.str_)
    if output.annotation_ids is None:
        raise ValueError(
            f"task {task.name!r}: the objects of {record.file_name} have no annotation_ids, which scoring needs"
        )
    boxes = {label.annotation_id: label for label in box_labels(task.name, record)}
    embedded = output.annotation_ids.tolist()
    expected = {i for i, label in boxes.items() if label.identity is not None and not label.is_ignored_in_scoring}
    if len(set(embedded)) != len(embedded) or not expected <= set(embedded) <= boxes.keys():
        raise ValueError(
            f"task {task.name!r}: annotations {embedded[:10]} of {record.file_name} were embedded; each of "
            f"{sorted(expected)[:10]} must be embedded exactly once"
        )
    named = output.identities
    if named is None:
        named = np.array([boxes[i].identity or "" for i in embedded], dtype=np.str_)
    return np.where([boxes[i].is_ignored_in_scoring for i in embedded], "", named) if embedded else named


def named_embeddings(
    task: TaskSetup[EmbeddingSpec], pairs: Pairs[Embeddings]
) -> tuple[NamedEmbeddings, NDArray[np.int64]]:
    """Return all N embeddings whose identity is known, in the order of the images, and the places (N, 2) that they come
    from: the position of the image, and the row in its output."""
    identities = [identities_of(task, record, output) for record, output in pairs]
    names = np.concatenate([np.zeros(0, dtype=np.str_), *identities])
    rows = np.concatenate([np.zeros((0, task.spec.dim), dtype=np.float32), *(output.embeddings for _, output in pairs)])
    numbers = np.array([len(found) for found in identities], dtype=np.int64)
    images = np.repeat(np.arange(len(pairs)), numbers)
    own_rows = np.arange(len(names)) - np.repeat(numbers.cumsum() - numbers, numbers)
    is_known = names != ""
    return NamedEmbeddings(rows[is_known], names[is_known]), np.column_stack([images, own_rows])[is_known]
