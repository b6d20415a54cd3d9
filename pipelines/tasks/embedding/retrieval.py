"""Scores of embeddings: how often the nearest neighbors have the same identity. Torch-free.

R-precision, MAP@R and their use beside recall at 1: Musgrave, Belongie, Lim 2020, "A Metric Learning Reality Check",
arXiv 2003.08505, section 3.2.

Legend: Q queries, G gallery items, D embedding, R relevant items of a query.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.arrays import FloatArray, unit_rows
from pipelines.tasks.embedding.clustering import mutual_information

MIN_QUERIES = 5
"""Identities with fewer queries are too noisy for `macro_recall_at_1`; all other numbers include them."""

RECALL_AT = (1, 5, 10)

CHUNK_CELLS = 2**22
"""Similarities held at a time: 32 MiB of sort keys."""

TIE = 1e6
"""Similarities are compared in steps of 1e-6, in float64, so that ties do not depend on how the product is split."""


@dataclass(frozen=True)
class NamedEmbeddings:
    """Embeddings (N, D) of any length and their identities (N,), all of them known."""

    embeddings: FloatArray
    identities: NDArray[np.str_]

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or self.identities.shape != (len(self.embeddings),):
            raise ValueError(
                f"embeddings and identities: got the shapes {self.embeddings.shape} and {self.identities.shape}; "
                "they must be (N, D) and (N,)"
            )

    def __len__(self) -> int:
        return len(self.embeddings)


def score_retrieval(
    queries: NamedEmbeddings,
    gallery: NamedEmbeddings | None = None,
    *,
    own: NDArray[np.int64] | None = None,
    min_queries: int = MIN_QUERIES,
    found: "Neighbors | None" = None,
) -> dict[str, Any]:
    """Return recall at 1, 5 and 10, R-precision, MAP@R and recall at 1 by identity, by cosine similarity, and NMI.

    Without a gallery the queries are their own gallery, and a query does not find itself. If the gallery contains the
    queries, `own` (Q,) are their positions there, which they do not find either. Of equal similarities the
    item that comes first in the gallery is nearer. A query whose identity has no (other) item in the gallery is skipped
    and counted in `num_left_out`.

    `recall_at_k` is the share of queries that have an item of their identity among the nearest k (all items, where the
    gallery has fewer); `macro_recall_at_1` the mean of recall at 1 over identities with at least `min_queries` queries.
    With R, the number of gallery items of the query's identity: `r_precision` is the mean over queries of the share of
    their identity among the nearest R, `map_at_r` that of sum_{i<=R} P(i) rel(i) / R (equations 7 and 8).
    `nmi` is of the queries alone, see `mutual_information`. `found` is what `search` has returned, if it is known.
    """
    found = search(queries, gallery, own) if found is None else found
    asked = np.flatnonzero(found.num_relevant > 0)
    names, codes = np.unique(queries.identities, return_inverse=True)
    support = np.bincount(codes[asked], minlength=len(names))
    hits = np.bincount(codes[asked], weights=found.first_found[asked] <= 1, minlength=len(names))
    often = support >= max(1, min_queries)
    return {
        "num_gallery": len(queries if gallery is None else gallery),
        "num_queries": len(asked),
        "num_left_out": len(queries) - len(asked),
        **{f"recall_at_{k}": _mean(found.first_found[asked] <= k) for k in RECALL_AT},
        "r_precision": _mean(found.share[asked]),
        "map_at_r": _mean(found.precision[asked]),
        "macro_recall_at_1": _mean(hits[often] / support[often]),
        "nmi": mutual_information(_unit(queries.embeddings[asked]), codes[asked]),
        "macro_min_queries": min_queries,
        "per_class": [
            {"identity": str(names[i]), "support": int(support[i]), "recall_at_1": float(hits[i] / support[i])}
            for i in np.flatnonzero(support)
        ],
    }


@dataclass(frozen=True)
class Neighbors:
    """What each of Q queries finds.

    Attributes:
        num_relevant: (Q,) number of (other) items of its identity in the gallery.
        first_found: (Q,) rank of the nearest of them, counted from 1; infinite if it is none of the nearest R or 10.
        share: (Q,) share of its identity among the nearest R.
        precision: (Q,) its term of MAP@R.
    """

    num_relevant: NDArray[np.int64]
    first_found: NDArray[np.float64]
    share: NDArray[np.float64]
    precision: NDArray[np.float64]


def search(
    queries: NamedEmbeddings, gallery: NamedEmbeddings | None = None, own: NDArray[np.int64] | None = None
) -> Neighbors:
    """Look up queries in the gallery, or without one among the other queries; see `score_retrieval`."""
    items = queries if gallery is None else gallery
    if gallery is None:
        own = np.arange(len(queries))
    names, codes = np.unique(np.concatenate([queries.identities, items.identities]), return_inverse=True)
    query_codes, item_codes = codes[: len(queries)], codes[len(queries) :]
    num_relevant = np.bincount(item_codes, minlength=len(names))[query_codes] - int(own is not None)
    asked = np.flatnonzero(num_relevant > 0)
    # Queries with similar numbers of neighbors share a chunk, so that one large identity does not slow the others.
    order = asked[np.argsort(num_relevant[asked], kind="stable")]
    first_found = np.full(len(queries), np.inf)
    share, precision = np.zeros(len(queries)), np.zeros(len(queries))
    query_units, item_units = _unit(queries.embeddings), _unit(items.embeddings)
    rows = max(1, CHUNK_CELLS // max(1, len(items)))
    for start in range(0, len(order), rows):
        chunk = order[start : start + rows]
        wanted = num_relevant[chunk]
        count = max(int(wanted.max()), *RECALL_AT)
        near = _nearest(query_units[chunk], item_units, count, None if own is None else own[chunk])
        relevant = item_codes[near] == query_codes[chunk, None]
        first_found[chunk] = np.where(relevant.any(axis=1), relevant.argmax(axis=1) + 1, np.inf)
        share[chunk], precision[chunk] = _precision_at_r(relevant, wanted)
    return Neighbors(num_relevant, first_found, share, precision)


def nearest_items(
    queries: NamedEmbeddings,
    gallery: NamedEmbeddings | None,
    chosen: NDArray[np.int64],
    count: int,
    own: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return for P chosen queries the positions (P, count) of their nearest items in the gallery, nearest first, and
    their cosine similarities; fewer of a small gallery. See `search`."""
    items = queries if gallery is None else gallery
    if gallery is None:
        own = np.arange(len(queries))
    units, rows = _unit(items.embeddings), _unit(queries.embeddings[chosen])
    count = min(count, len(items) - int(own is not None))
    near = _nearest(rows, units, count, None if own is None else own[chosen])[:, :count]
    return near, np.einsum("pd,pcd->pc", rows, units[near])


def _unit(embeddings: FloatArray) -> NDArray[np.float64]:
    return unit_rows(embeddings.astype(np.float64))


def _nearest(
    queries: NDArray[np.float64], items: NDArray[np.float64], count: int, own: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Return (Q, count) positions in the gallery, nearest first, or all of a smaller one.

    `own` (Q,) are the queries' own positions there: the entry of the query itself comes last and must be ignored.

    Distance and position are packed into one integer, so that partial sorting is exact for ties too.
    """
    distances = np.rint((1.0 - queries @ items.T) * TIE).astype(np.int64)
    keys = distances * len(items) + np.arange(len(items))
    if own is not None:
        keys[np.arange(len(own)), own] = np.iinfo(np.int64).max
    if count < len(items):
        keys = np.partition(keys, count - 1, axis=1)[:, :count]
    return np.sort(keys, axis=1) % len(items)


def _precision_at_r(
    relevant: NDArray[np.bool_], wanted: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (Q,) and (Q,), over the first R = wanted items: the share of relevant ones, and the mean of precision at i
    where item i is relevant, else 0."""
    ranks = np.arange(1, relevant.shape[1] + 1)
    counted = relevant & (ranks <= wanted[:, None])
    found: NDArray[np.float64] = np.where(counted, counted.cumsum(axis=1) / ranks, 0).sum(axis=1)
    return counted.sum(axis=1) / wanted, found / wanted


def _mean(values: NDArray[np.bool_] | NDArray[np.float64]) -> float | None:
    return float(np.mean(values)) if len(values) else None
