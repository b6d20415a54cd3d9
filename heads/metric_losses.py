"""Losses of embeddings, each with the settings of its paper.

The losses with weights (proxies, class centers) and SupCon are from pytorch-metric-learning. NT-Xent and the triplet
loss are implemented here: the library stores one number for every combination of a positive and a negative pair, and
every triplet three times, which does not fit in memory for a batch of a few hundred objects.

Two rows form a positive pair if they have the same identity, otherwise a negative pair.

Legend: N rows of the joint batch, D embedding, P pairs.
"""

from pkgutil import resolve_name
from typing import get_args

import torch
from pytorch_metric_learning import losses
from torch import Tensor, nn
from torch.nn import functional

from heads.loss_rows import METRIC_LOSSES
from heads.spec import MetricLoss, Miner


def create_metric_loss(name: MetricLoss, num_identities: int, dim: int, miner: Miner = "semihard") -> nn.Module:
    """Return the loss, a module that maps unit embeddings (N, D) float32 and identities (N,) int64 to a scalar.

    The scalar is a mean; the constructors below state over which elements.

    Raises:
        ValueError: the name or the miner is unknown.
    """
    if name not in METRIC_LOSSES:
        raise ValueError(f"loss: got {name!r}; choose one of {', '.join(METRIC_LOSSES)}")
    loss: nn.Module = resolve_name(METRIC_LOSSES[name].constructor)(num_identities, dim, miner)
    return loss


def proxy_anchor(num_identities: int, dim: int, miner: Miner) -> nn.Module:
    """Return Proxy-Anchor (Kim et al. 2020, arXiv 2003.13911, equation 4; margin 0.1, alpha 32).

    The mean is over identities, separately for pulls (identities of the batch) and pushes (all identities).
    """
    loss: nn.Module = losses.ProxyAnchorLoss(num_identities, dim, margin=0.1, alpha=32)
    return loss


def arcface(num_identities: int, dim: int, miner: Miner) -> nn.Module:
    """Return ArcFace (Deng et al. 2019, arXiv 1801.07698, equation 3; margin 28.6 degrees, scale 64).

    The mean is over rows.
    """
    loss: nn.Module = losses.ArcFaceLoss(num_identities, dim, margin=28.6, scale=64)
    return loss


def cosface(num_identities: int, dim: int, miner: Miner) -> nn.Module:
    """Return CosFace (Wang et al. 2018, arXiv 1801.09414, equation 4; margin 0.35, scale 64).

    The mean is over rows.
    """
    loss: nn.Module = losses.CosFaceLoss(num_identities, dim, margin=0.35, scale=64)
    return loss


def supcon(num_identities: int, dim: int, miner: Miner) -> nn.Module:
    """Return SupCon (Khosla et al. 2020, arXiv 2004.11362, equation 2; temperature 0.1).

    The mean is over rows whose loss is not zero, which are the rows with a positive pair.
    """
    loss: nn.Module = losses.SupConLoss(temperature=0.1)
    return loss


def ntxent(num_identities: int, dim: int, miner: Miner) -> nn.Module:
    """Return `NTXentLoss`."""
    return NTXentLoss()


def triplet(num_identities: int, dim: int, miner: Miner) -> nn.Module:
    """Return `TripletLoss`, the only loss that uses the miner."""
    return TripletLoss(miner)


def can_use(name: MetricLoss, identities: Tensor) -> bool:
    """Return whether the loss is defined for rows of these identities (N,).

    Losses with weights need one row. The others need a positive and a negative pair.
    """
    if not METRIC_LOSSES[name].needs_pairs:
        return len(identities) > 0
    return 2 <= len(torch.unique(identities)) < len(identities)


class NTXentLoss(nn.Module):
    """Normalized, temperature-scaled cross-entropy of each positive pair against the negative pairs of its first row.

    Chen et al. 2020, arXiv 2002.05709, equation 1, with their temperature for ImageNet, 0.1; the loss with many
    negatives is from Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", 2016. In the paper
    the only positive of a row is its other view. Here all rows of the same identity are positives. Each of them is
    contrasted with the negatives only, whereas `supcon` also contrasts it with the other positives. If every row has
    one positive, both are the paper's loss. The mean is over all ordered positive pairs.

    O(N^2) memory.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, embeddings: Tensor, identities: Tensor) -> Tensor:
        """Return the loss of rows with at least one positive and one negative pair."""
        logits_NN = embeddings @ embeddings.T / self.temperature
        is_equal = identities[:, None] == identities
        negatives_N = logits_NN.masked_fill(is_equal, -torch.inf).logsumexp(dim=1)
        is_pair = is_equal.clone().fill_diagonal_(False)
        losses_P = functional.softplus(negatives_N[:, None] - logits_NN)[is_pair]
        return losses_P.mean()


class TripletLoss(nn.Module):
    """Loss of triplets of a row, a positive and a negative, which should be farther from the row by a margin.

    Schroff, Kalenichenko, Philbin 2015, "FaceNet", arXiv 1503.03832, equations 2 and 3: the loss of a triplet is
    max(0, d(a, p) - d(a, n) + 0.2), where d is the squared Euclidean distance of vectors of length 1. `miner`
    selects the triplets of the joint batch that count:

    - all: every triplet.
    - semihard: triplets whose negative is farther away than the positive, but by less than the margin (equation 4).
    - hard: triplets whose negative is at most as far away as the positive.

    The mean is over the triplets that count and whose loss is not zero. Deviations: the paper sums, and its miner takes
    one negative for each positive pair; here all negatives are taken, as in TripletMarginMiner and TripletMarginLoss of
    pytorch-metric-learning.

    Triplets are counted, not listed: O(N^2) memory, O(N^2 log N) time.
    """

    def __init__(self, miner: Miner = "semihard", margin: float = 0.2) -> None:
        super().__init__()
        if miner not in get_args(Miner):
            raise ValueError(f"miner: got {miner!r}; choose one of {', '.join(get_args(Miner))}")
        self.miner = miner
        self.margin = margin

    def forward(self, embeddings: Tensor, identities: Tensor) -> Tensor | None:
        """Return the loss, or None if no triplet counts."""
        distances_NN = 2 - 2 * embeddings @ embeddings.T
        pulls_NN, pushes_NN = self._count(distances_NN.detach(), identities)
        num_triplets = pulls_NN.sum()
        if num_triplets == 0:
            return None
        # The mean of differences of distances is linear in the distances: each counts as often as it occurs.
        weights_NN = (pulls_NN - pushes_NN).to(distances_NN.dtype)
        return (distances_NN * weights_NN).sum() / num_triplets + self.margin

    def _count(self, distances_NN: Tensor, identities: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of triplets in which each pair is the positive one, and the negative one: (N, N) int64."""
        is_equal = identities[:, None] == identities
        is_positive = is_equal.clone().fill_diagonal_(False)
        num_positives = is_positive.sum(dim=1, keepdim=True)
        negatives_NN = distances_NN.masked_fill(is_equal, torch.inf).sort(dim=1).values
        positives_NN = distances_NN.masked_fill(~is_positive, torch.inf).sort(dim=1).values
        # Pulls and pushes compare the same two numbers, so both count exactly the same triplets.
        pulls = torch.searchsorted(negatives_NN, distances_NN + self.margin)
        pushes = num_positives - torch.searchsorted(positives_NN + self.margin, distances_NN, right=True)
        hard_pulls = torch.searchsorted(negatives_NN, distances_NN, right=True)
        hard_pushes = num_positives - torch.searchsorted(positives_NN, distances_NN)
        if self.miner == "hard":
            pulls, pushes = hard_pulls, hard_pushes
        elif self.miner == "semihard":
            pulls, pushes = pulls - hard_pulls, pushes - hard_pushes
        return pulls * is_positive, pushes * ~is_equal
