"""Random selection of the anchors and proposals that a two-stage detector learns from.

Legend: N anchors or proposals of one image.
"""

import torch
from torch import Tensor

from heads.losses import NEGATIVE


def random_priorities(count: int, seed: int, device: torch.device) -> Tensor:
    """Return random numbers (count,) float64, which depend on nothing but `count` and `seed`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, dtype=torch.float64, generator=generator).to(device)


def sample(labels_N: Tensor, order_N: Tensor, *, num_samples: int, positive_share: float) -> Tensor:
    """Return the sorted positions of a sample: the first positives in `order_N`, then negatives up to `num_samples`.

    At most `positive_share` of `num_samples` are positive (Ren et al. 2015, arXiv 1506.01497, section 3.1.3). Rows that
    are `IGNORED` are not sampled. There are fewer samples than `num_samples` where positives and negatives are few.

    Args:
        labels_N: (N,) int64: not negative for a positive, `NEGATIVE`, or `IGNORED`.
        order_N: a permutation of the rows.
    """
    labels = labels_N[order_N]
    positives = order_N[labels >= 0][: int(num_samples * positive_share)]
    negatives = order_N[labels == NEGATIVE][: num_samples - len(positives)]
    return torch.cat((positives, negatives)).sort().values
