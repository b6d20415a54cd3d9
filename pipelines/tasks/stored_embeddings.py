"""The items of an evaluated split with their embeddings, among which other vectors find neighbors. Torch-free.

Legend: N items, D embedding.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from pipelines.tasks.arrays import FloatArray, unit_rows
from pipelines.tasks.image_marks import ImageName


class StoredItem(NamedTuple):
    """An embedded image, or an object in it.

    Attributes:
        image: the image.
        annotation_id: of the object; None for an image, and for boxes of a detector.
        identity: None where unknown.
        bbox_xywh: in pixels of the original image; of an image, all of it.
    """

    image: ImageName
    annotation_id: int | None
    identity: str | None
    bbox_xywh: tuple[float, float, float, float]


class StoredEmbeddings:
    """The items of a split.

    Args:
        items: N items.
        embeddings: (N, D) of any length; a row with a number that is not finite is equally far from all.

    Raises:
        ValueError: there is not one embedding for each item.
    """

    def __init__(self, items: Sequence[StoredItem], embeddings: FloatArray) -> None:
        if embeddings.ndim != 2 or len(embeddings) != len(items):
            raise ValueError(f"got embeddings of shape {embeddings.shape}; {len(items)} items need ({len(items)}, D)")
        self.items = items
        rows = embeddings.astype(np.float32)
        rows[~np.isfinite(rows).all(axis=1)] = 0
        self._units = unit_rows(rows)

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def names(self) -> list[ImageName]:
        """The images of the items, each of them once."""
        return list(dict.fromkeys(item.image for item in self.items))

    def nearest(self, embedding: Sequence[float], count: int) -> list[tuple[StoredItem, float]]:
        """Return the items that are most similar to a vector, and their cosine similarities; the most similar first.

        Args:
            embedding: (D,) of any length.
            count: maximum number of items.

        Raises:
            ValueError: the vector has another number of values than the items, or all of them are 0.
        """
        vector = np.asarray(embedding, dtype=np.float64)
        if not self.items:
            return []
        if len(vector) != self._units.shape[1]:
            raise ValueError(f"got {len(vector)} values; the embeddings of the task have {self._units.shape[1]}")
        if not vector.any():
            raise ValueError("got only zeros, which are equally far from everything")
        # Values may be so large that their squares are infinite.
        similarities = self._units @ unit_rows((vector / np.abs(vector).max())[None].astype(np.float32))[0]
        order = np.argsort(-similarities, kind="stable")[:count]
        values = np.clip(similarities[order], -1, 1).tolist()
        return [(self.items[position], value) for position, value in zip(order, values, strict=True)]
