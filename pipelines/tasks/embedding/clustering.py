"""Agreement of clusters of embeddings with the identities. Torch-free.

Legend: N rows, D embedding.
"""

import warnings

import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 5_000
"""A random choice of this size, the same in every call, represents more rows, so that it takes seconds at most."""

SMALL_CELLS = 200_000
"""Up to this many rows times identities, k-means starts three times, with the best of several candidates for each
initial center; above, it starts once with one candidate, to save time."""


def mutual_information(rows: NDArray[np.float64], codes: NDArray[np.int64]) -> float | None:
    """Return the normalized mutual information of identities and clusters, in [0, 1]; None where it is
    meaningless.

    The clusters are those of k-means (k-means++, fixed seed), as many as there are identities. Normalized
    by the arithmetic mean of both entropies, as in Musgrave et al. 2020, arXiv 2003.08505. With fewer than two
    identities, or where every identity has one row, any clustering is correct: None.

    Args:
        rows: (N, D) of length 1.
        codes: (N,) identities.
    """
    if len(codes) > MAX_ROWS:
        chosen = np.sort(np.random.default_rng(0).choice(len(codes), MAX_ROWS, replace=False))
        rows, codes = rows[chosen], codes[chosen]
    num_identities = len(np.unique(codes))
    if not 2 <= num_identities < len(codes):
        return None
    # Slow to import, and only embeddings need it.
    from sklearn.cluster import KMeans, kmeans_plusplus
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import normalized_mutual_info_score

    clusterer = KMeans(num_identities, n_init=3, max_iter=100, random_state=0)
    if len(rows) * num_identities > SMALL_CELLS:
        centers, _ = kmeans_plusplus(rows, num_identities, random_state=0, n_local_trials=1)
        clusterer.set_params(init=centers, n_init=1)
    with warnings.catch_warnings():
        # Equal rows can form fewer clusters than there are identities.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = clusterer.fit_predict(rows)
    return min(1.0, max(0.0, float(normalized_mutual_info_score(codes, clusters))))
