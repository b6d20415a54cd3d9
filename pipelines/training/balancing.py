"""From the terms of each task to one number: global means, then a weighted sum."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor

from heads.base import LossTerms


@dataclass(frozen=True)
class GlobalLosses:
    """`total` is to be minimised on this rank; DDP's average of its gradients over the ranks is the gradient of one
    process that has the whole batch. `terms` are the unweighted means over all ranks, by "<task>/<term>", detached and
    the same on every rank."""

    total: Tensor
    terms: dict[str, Tensor]


def combine(losses: Mapping[str, LossTerms], weights: Mapping[str, float]) -> GlobalLosses:
    """Return the weighted sum of all terms, each divided by its count over all ranks (at least 1).

    Every rank must have the same tasks and terms. One all-reduce carries all sums and counts.

    Args:
        losses: by task, the terms (sum, count) of this rank.
        weights: by task.
    """
    names = [(task, term) for task, terms in losses.items() for term in terms]
    sums = torch.stack([losses[task][term][0].float() for task, term in names])
    counts = torch.stack([losses[task][term][1].float() for task, term in names])
    totals = torch.stack([sums.detach(), counts])
    ranks = 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        ranks = torch.distributed.get_world_size()
        torch.distributed.all_reduce(totals)
    divisors = totals[1].clamp(min=1)
    factors = torch.tensor([weights[task] for task, _ in names], device=sums.device)
    total = (sums * ranks / divisors * factors).sum()
    means = totals[0] / divisors
    return GlobalLosses(total, {f"{task}/{term}": means[i] for i, (task, term) in enumerate(names)})
