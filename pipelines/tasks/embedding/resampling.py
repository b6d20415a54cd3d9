"""Scores of embeddings for samples of the images. Torch-free.

The gallery stays complete: a sample changes how often the query images count, but not which neighbors a query finds.

Legend: I images, S samples, Q queries.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.arrays import FloatArray, ratio
from pipelines.tasks.embedding.retrieval import RECALL_AT, NamedEmbeddings, search
from pipelines.tasks.resampling import Counts, Numbers, SampleScores, ScoredImages, mean_of_defined, positions_of


class ScoredQueries(ScoredImages):
    """Embeddings of a split that is its own gallery.

    Args:
        embeddings: (N, D).
        identities: (N,) '' where unknown.
        image_ids: (N,).
        file_names: (N,) of the images.
        min_queries: see `score_retrieval`.
    """

    def __init__(
        self,
        embeddings: FloatArray,
        identities: NDArray[np.str_],
        image_ids: NDArray[np.int64],
        file_names: NDArray[np.str_],
        min_queries: int,
    ) -> None:
        self.images = sorted(set(zip(image_ids.tolist(), file_names.tolist(), strict=True)))
        labels: dict[int, list[str]] = {}
        for image_id, identity in zip(image_ids.tolist(), identities.tolist(), strict=True):
            labels.setdefault(image_id, []).append(identity)
        self.labels = {image_id: tuple(names) for image_id, names in labels.items()}
        is_known = identities != ""
        self._found = search(NamedEmbeddings(embeddings[is_known], identities[is_known]))
        positions = positions_of(self.images)
        self._image = np.array([positions[i] for i in image_ids[is_known].tolist()], dtype=np.int64)
        is_asked = self._found.num_relevant > 0
        names, codes = np.unique(identities[is_known], return_inverse=True)
        rows = {str(name): np.flatnonzero(is_asked & (codes == k)) for k, name in enumerate(names)}
        self._queries = {name: found for name, found in rows.items() if len(found)}
        self._asked = np.flatnonzero(is_asked)
        self._often = [name for name, found in self._queries.items() if len(found) >= max(1, min_queries)]
        self.classes = list(self._queries)
        self.num_rows = max(1, len(self._image))

    @classmethod
    def read(cls, predictions: Path, result: Mapping[str, Any]) -> "ScoredQueries":
        """Read the arrays of a run folder; raises ValueError if the gallery is the training split."""
        if result["gallery"] != "self":
            raise ValueError(
                f"{predictions}: neighbors were searched in the training split, whose embeddings are not part of the "
                "run; compare runs with `gallery: self`, or leave the task out"
            )
        with np.load(predictions) as arrays:
            return cls(
                arrays["embedding"],
                arrays["identity"],
                arrays["image_id"],
                arrays["file_name"],
                result["macro_min_queries"],
            )

    def scores(self, counts: Counts) -> SampleScores:
        weights = counts[:, self._image]
        first = self._found.first_found
        per_class = {name: _mean(first <= 1, weights, rows) for name, rows in self._queries.items()}
        often = [per_class[name] for name in self._often]
        metrics = {
            **{f"recall_at_{k}": _mean(first <= k, weights, self._asked) for k in RECALL_AT},
            "r_precision": _mean(self._found.share, weights, self._asked),
            "map_at_r": _mean(self._found.precision, weights, self._asked),
            "macro_recall_at_1": mean_of_defined(np.stack(often)) if often else np.full(len(counts), np.nan),
        }
        return SampleScores(metrics, {name: {"recall_at_1": values} for name, values in per_class.items()})


def _mean(values: NDArray[Any], weights: Counts, rows: NDArray[np.int64]) -> Numbers:
    """Return (S,), the mean of the rows' values, weighted by (S, Q)."""
    return ratio(weights[:, rows] @ values[rows], weights[:, rows].sum(axis=1))
