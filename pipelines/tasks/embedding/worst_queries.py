"""The queries that find their identity worst, with their nearest neighbors.

Legend: Q queries, G gallery items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.embedding.retrieval import NamedEmbeddings, Neighbors, nearest_items

NUM_QUERIES = 8
NUM_NEIGHBORS = 5


@dataclass(frozen=True)
class FoundQuery:
    """A query and what it finds.

    Attributes:
        position: among the queries.
        map_at_r: its term of MAP@R.
        first_found: rank of the first item of its identity; None if it is none of the nearest R or 10.
        neighbors: positions in the gallery, nearest first.
        similarities: cosine similarity of each neighbor.
    """

    position: int
    map_at_r: float
    first_found: int | None
    neighbors: list[int]
    similarities: list[float]


def worst_queries(
    queries: NamedEmbeddings, gallery: NamedEmbeddings | None, found: Neighbors, own: NDArray[np.int64] | None = None
) -> list[FoundQuery]:
    """Return at most `NUM_QUERIES` queries with the lowest MAP@R, the worst first.

    Of equal ones, that whose identity is found later is worse. Queries that find their whole identity first, and those
    whose identity the gallery lacks, are not among them.

    Args:
        queries, gallery, own: see `search`.
        found: what it has returned.
    """
    asked = np.flatnonzero((found.num_relevant > 0) & (found.precision < 1))
    order = np.lexsort((asked, -found.first_found[asked], found.precision[asked]))[:NUM_QUERIES]
    chosen = asked[order]
    near, similarities = nearest_items(queries, gallery, chosen, NUM_NEIGHBORS, own)
    return [
        FoundQuery(
            position=int(position),
            map_at_r=float(found.precision[position]),
            first_found=int(rank) if np.isfinite(rank := found.first_found[position]) else None,
            neighbors=items.tolist(),
            similarities=np.clip(values, -1, 1).tolist(),
        )
        for position, items, values in zip(chosen, near, similarities, strict=True)
    ]
