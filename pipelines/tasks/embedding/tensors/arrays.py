"""Embeddings of a split as a file of arrays."""

import io

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.base import TaskSetup
from pipelines.tasks.embedding.spec import EmbeddingSpec
from pipelines.tasks.embedding.tensors.embeddings import Embeddings
from pipelines.tasks.embedding.tensors.identities import identities_of
from pipelines.tasks.tensors.boxes import xyxy_to_xywh
from pipelines.tasks.tensors.runtime import Pairs


def embedding_arrays(task: TaskSetup[EmbeddingSpec], pairs: Pairs[Embeddings]) -> bytes:
    """Return an npz file.

    Its arrays are embedding (N, D), image_id, source, file_name, annotation_id (-1 where the boxes are not those of
    labels), identity ('' where unknown) and bbox_xywh (N, 4) in original pixels: of the whole image for an embedding of
    the image.
    """
    embeddings = [np.zeros((0, task.spec.dim), dtype=np.float32)]
    image_ids, annotation_ids = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    sources, file_names = [np.zeros(0, dtype=np.str_)], [np.zeros(0, dtype=np.str_)]
    identities, boxes = [np.zeros(0, dtype=np.str_)], [np.zeros((0, 4))]
    for record, found in pairs:
        count = len(found.embeddings)
        is_known = task.name in record.labels and (task.spec.of == "image" or found.annotation_ids is not None)
        embeddings.append(found.embeddings.astype(np.float32))
        image_ids.append(np.full(count, record.image_id))
        sources.append(np.full(count, record.source))
        file_names.append(np.full(count, record.file_name))
        annotation_ids.append(_ids(found))
        identities.append(identities_of(task, record, found) if is_known else np.full(count, ""))
        whole = np.array([[0, 0, record.width, record.height]], dtype=np.float64)
        boxes.append(whole if found.boxes_xyxy is None else xyxy_to_xywh(found.boxes_xyxy))
    file = io.BytesIO()
    np.savez(
        file,
        embedding=np.concatenate(embeddings),
        image_id=np.concatenate(image_ids),
        source=np.concatenate(sources),
        file_name=np.concatenate(file_names),
        annotation_id=np.concatenate(annotation_ids),
        identity=np.concatenate(identities),
        bbox_xywh=np.concatenate(boxes),
    )
    return file.getvalue()


def _ids(found: Embeddings) -> NDArray[np.int64]:
    if found.annotation_ids is None:
        return np.full(len(found.embeddings), -1)
    return found.annotation_ids.astype(np.int64)
