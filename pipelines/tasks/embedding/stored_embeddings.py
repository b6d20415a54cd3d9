"""The embeddings in a run folder as a stored_embeddings. Torch-free."""

from pathlib import Path

import numpy as np

from pipelines.tasks.image_marks import ImageName
from pipelines.tasks.stored_embeddings import StoredEmbeddings, StoredItem


def read_stored_embeddings(predictions: Path) -> StoredEmbeddings:
    """Read the arrays of a task; raises ValueError for files of versions that did not store the sources of images."""
    with np.load(predictions) as arrays:
        if "source" not in arrays:
            raise ValueError(
                "they were written by an earlier version, without the sources of images; submit the job again"
            )
        columns = zip(
            *(arrays[name].tolist() for name in ("image_id", "source", "file_name")),
            arrays["annotation_id"].tolist(),
            arrays["identity"].tolist(),
            arrays["bbox_xywh"].tolist(),
            strict=True,
        )
        items = [
            StoredItem(
                ImageName(image_id, source, file_name),
                None if annotation_id < 0 else annotation_id,
                identity or None,
                (box[0], box[1], box[2], box[3]),
            )
            for image_id, source, file_name, annotation_id, identity, box in columns
        ]
        return StoredEmbeddings(items, arrays["embedding"])
