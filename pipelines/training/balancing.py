"""The minimized loss from the loss terms of each task: means over all ranks, then fixed or learned weights.

Legend: T tasks, in the order of the network's heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn

from heads.base import LossTerms
from pipelines.base.ranks import is_distributed, world_size
from pipelines.spec.model import ModelSpec

LIMIT = 6.0
"""Learned log-variances stay in [-LIMIT, LIMIT]; the factor of a task is between 0.0025 and 403."""


@dataclass(frozen=True)
class GlobalLosses:
    """The losses of one micro-batch, unweighted.

    Attributes:
        tasks: by task, the sum of its terms, with a graph. The values of the ranks differ, such that DDP's average of
            the gradients over the ranks is the gradient of one process with the whole batch.
        terms: by "<task>/<term>", means over all ranks, detached and the same on every rank.
        is_present: bool, in the order of `terms`: whether the term's count is positive on any rank. A mean over
            nothing is 0.
        is_active: (T,) bool: whether the task can learn from the batch of any rank. A task without labels cannot, nor
            can an embedding whose rows form no pair.
    """

    tasks: dict[str, Tensor]
    terms: dict[str, Tensor]
    is_present: Tensor
    is_active: Tensor


def global_losses(losses: Mapping[str, LossTerms]) -> GlobalLosses:
    """Return the terms of all tasks, each divided by its count over all ranks (by 1 if that is 0).

    Every rank must have the same tasks and terms. All sums and counts are reduced at once.

    Args:
        losses: by task, the terms (sum, count) of this rank.
    """
    names = [(task, term) for task, terms in losses.items() for term in terms]
    totals = torch.stack([torch.stack([part.detach().float() for part in losses[task][term]]) for task, term in names])
    num_ranks = world_size()
    if is_distributed():
        torch.distributed.all_reduce(totals)
    divisors = totals[:, 1].clamp(min=1)
    means = totals[:, 0] / divisors
    tasks: dict[str, Tensor] = {}
    for (task, term), divisor in zip(names, divisors, strict=True):
        share = losses[task][term][0].float() * num_ranks / divisor
        tasks[task] = tasks[task] + share if task in tasks else share
    is_present = (totals != 0).any(dim=1)
    by_task = torch.split(is_present, [len(terms) for terms in losses.values()])
    is_active = torch.stack([of_terms.any() for of_terms in by_task])
    terms = {f"{task}/{term}": means[i] for i, (task, term) in enumerate(names)}
    return GlobalLosses(tasks, terms, is_present, is_active)


class Balance(nn.Module):
    """Weighs the tasks against each other; training minimizes the sum of the returned losses."""

    def forward(self, losses: GlobalLosses) -> dict[str, Tensor]:
        """Return the weighted loss of each task; gradients relate to ranks as for `GlobalLosses.tasks`."""
        raise NotImplementedError

    def factors(self) -> dict[str, float]:
        """Return the learned factor of each task's loss, without the document's weight; empty for fixed weights."""
        return {}


class FixedBalance(Balance):
    """The weights of the document: w_t * L_t. No parameters.

    Args:
        weights: by task.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)

    def forward(self, losses: GlobalLosses) -> dict[str, Tensor]:
        return {task: self.weights[task] * loss for task, loss in losses.tasks.items()}


class UncertaintyBalance(Balance):
    """Kendall, Gal, Cipolla 2018, arXiv 1705.07115, section 3.2 with s = log sigma^2: w_t * exp(-s_t) * L_t + s_t / 2.

    For a constant loss, s_t converges to log(2 w_t L_t): each task then adds 1/2 to the total, at any scale of its
    loss. The total may be negative.

    Deviations: the paper's factor 1/2 of regression losses is dropped, so that all tasks have one formula and s = 0 is
    `FixedBalance`; w_t scales the loss; an inactive task adds nothing, and the gradient of its s_t is zero; s is
    clamped to [-LIMIT, LIMIT] before each use (a projected gradient step: at a limit the gradient is unchanged, and
    moves s back as soon as it points inwards).

    Args:
        weights: by task, in the order of the losses.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.log_variances = nn.Parameter(torch.zeros(len(self.weights)))

    def forward(self, losses: GlobalLosses) -> dict[str, Tensor]:
        assert list(losses.tasks) == list(self.weights)
        with torch.no_grad():
            self.log_variances.clamp_(-LIMIT, LIMIT)
        factors = (-self.log_variances).exp()
        regularizers = self.log_variances * losses.is_active / 2
        return {
            task: self.weights[task] * factors[i] * loss + regularizers[i]
            for i, (task, loss) in enumerate(losses.tasks.items())
        }

    def factors(self) -> dict[str, float]:
        factors = (-self.log_variances.detach().clamp(-LIMIT, LIMIT)).exp()
        return dict(zip(self.weights, factors.tolist(), strict=True))


def create_balance(spec: ModelSpec) -> Balance:
    """Return the balance that `model.balance` selects."""
    weights = {name: task.weight for name, task in sorted(spec.tasks.items())}
    return UncertaintyBalance(weights) if spec.balance == "uncertainty" else FixedBalance(weights)
