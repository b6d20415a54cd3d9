"""Rules other than addition that combine the tasks' gradients of shared parameters (by TorchJD).

Legend: T active tasks of this micro-batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torchjd.aggregation import (
    GramianWeightedAggregator,
    MGDAWeighting,
    PCGradWeighting,
    UPGradWeighting,
    Weighting,
)
from torchjd.autojac import jac_to_grad, mtl_backward
from torchjd.linalg import DualConeProjector, PSDMatrix

from heads.base import LossTerms, Target
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.model import MultiTaskModel
from pipelines.spec.job import JobSpec
from pipelines.training.trainer import num_processes, precision_of


class NNLSProjector(DualConeProjector):
    """Projects onto the dual cone of the tasks' gradients by non-negative least squares (Lawson and Hanson, in scipy).

    TorchJD's own projector needs quadprog, which is GPL. Its quadratic program (Quinton and Rey 2024, arXiv 2406.16232,
    proposition 1) is to find v >= u that minimizes v' G v. With G = D A' A D, where D holds the gradients' norms,
    y = D u and D v = y + x, this minimizes |A (y + x)| over x >= 0. Dividing by the norms makes the projection as exact
    for tasks with small gradients as for those with large ones. Nothing is regularized.
    """

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:
        """Return v for each row of U (..., T), given G (T, T)."""
        gramian = G.detach().cpu().double().numpy()
        norms = np.sqrt(gramian.diagonal())
        scale = np.where(norms > 0, norms, 1.0)
        values, vectors = np.linalg.eigh(gramian / np.outer(scale, scale))
        factor = np.sqrt(values.clip(min=0))[:, None] * vectors.T
        lower_bounds = U.detach().cpu().double().numpy().reshape(-1, len(gramian)) * scale
        found = [(row + nnls(factor, -factor @ row)[0]) / scale for row in lower_bounds]
        return torch.from_numpy(np.stack(found)).to(G).reshape(U.shape)


class _NonzeroGradientWeighting(Weighting[PSDMatrix]):
    """Applies a rule to the tasks with a nonzero gradient; with a zero gradient, MGDA would set all weights to zero."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, gramian: PSDMatrix, /) -> Tensor:
        """Return (T,) weights, given the products (T, T) of the tasks' gradients."""
        nonzero = (gramian.diagonal() > 0).nonzero().squeeze(1)
        weights = gramian.new_zeros(len(gramian))
        if len(nonzero) > 0:
            weights[nonzero] = self._rule(len(nonzero))(gramian[nonzero][:, nonzero]).to(weights)
        return weights

    def _rule(self, num_tasks: int) -> Weighting[PSDMatrix]:
        """Return the rule; for a single task, and (except MGDA) for tasks without conflict, it equals addition."""
        if self.name == "pcgrad":
            return PCGradWeighting()
        if self.name == "upgrad":
            return UPGradWeighting(pref_vector=torch.ones(num_tasks), projector=NNLSProjector())
        return MGDAWeighting()


class Aggregation:
    """The backward pass of one micro-batch with a rule of `model.aggregate`.

    The rule combines the gradients of the active tasks' weighted losses for backbone and neck; each head gets its own
    task's gradient. Without a possible conflict (one active task, or no trainable shared parameters) it is the plain
    backward pass.

    - pcgrad: Yu et al. 2020, arXiv 2001.06782, algorithm 1. Its random orders are drawn from torch's generator, which
      the training module seeds by (seed, epoch, batch).
    - upgrad: Quinton and Rey 2024, arXiv 2406.16232; the sum of the projected gradients instead of the paper's mean,
      so that learning rates have the same scale as without aggregation.
    - mgda: Sener and Koltun 2018, arXiv 1810.04650, algorithm 2: the shortest convex combination. It has the scale of
      one task's gradient, not of the sum.

    Args:
        name: pcgrad, upgrad or mgda.
        model: the network; which parameters are trainable is looked up at each backward pass.
    """

    def __init__(self, name: str, model: MultiTaskModel) -> None:
        self.model = model
        self._rule = GramianWeightedAggregator(_NonzeroGradientWeighting(name))
        self._read: list[Tensor] = []
        self._losses: dict[str, Tensor] = {}
        self._active: list[str] = []

    def loss(
        self,
        images: Tensor,
        targets: Mapping[str, Sequence[Target | None]],
        image_sizes_hw: Sequence[tuple[int, int]],
    ) -> dict[str, LossTerms]:
        """Return the same as `MultiTaskModel.loss`; `keep` and `backward` must be called next."""
        features = self.model.features(images)
        # Levels are computed from each other. Heads read views of them, so that each gradient is counted once.
        views = {level: feature.view_as(feature) for level, feature in features.items()}
        self._read = [view for view in views.values() if view.requires_grad]
        return self.model.losses_of(views, targets, image_sizes_hw)

    def keep(self, losses: Mapping[str, Tensor], is_active: Sequence[bool], num_batches: int) -> None:
        """Keep the weighted losses of the last call of `loss` for `backward`.

        Args:
            losses: by task.
            is_active: in the order of `losses`.
            num_batches: of an optimizer step; gradients are divided by it.
        """
        self._losses = {task: loss / num_batches for task, loss in losses.items()}
        self._active = [task for task, is_used in zip(losses, is_active, strict=True) if is_used]

    def backward(self) -> None:
        """Add the gradients of the kept losses to all trainable parameters."""
        read, losses, self._read, self._losses = self._read, self._losses, [], {}
        active = [task for task in self._active if losses[task].requires_grad]
        shared = [p for part in (self.model.backbone, self.model.neck) for p in _trainable(part)]
        if not read or not shared or len(active) < 2:
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            return
        with _in_layout_of([*shared, *_trainable(self.model.heads)]):
            self._combine(losses, active, read, shared)

    def _combine(
        self, losses: Mapping[str, Tensor], active: Sequence[str], read: list[Tensor], shared: list[nn.Parameter]
    ) -> None:
        for task in losses:
            if task not in active and (of_head := _trainable(self.model.heads[task])):
                torch.autograd.backward(losses[task], inputs=of_head)
        mtl_backward(
            [losses[task] for task in active],
            features=read,
            tasks_params=[_trainable(self.model.heads[task]) for task in active],
            shared_params=shared,
            parallel_chunk_size=1,
        )
        jac_to_grad(shared, self._rule, optimize_gramian_computation=True)


def _trainable(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


@contextmanager
def _in_layout_of(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Add the gradients computed inside to the earlier ones, in the parameters' memory layout.

    TorchJD's gradients may have another layout, which fused optimizers on the CPU silently read as the parameter's
    (torch 2.15), and two of them may share memory.
    """
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    yield
    for parameter, old in zip(parameters, before, strict=True):
        assert parameter.grad is not None
        new = torch.empty_like(parameter, requires_grad=False) if old is None else old
        parameter.grad = new.copy_(parameter.grad) if old is None else new.add_(parameter.grad)


def require_aggregation_fits(job: JobSpec) -> None:
    """Raise ConfigError if `model.aggregate` does not work with the number of processes or the precision."""
    if job.model.aggregate == "none":
        return
    value = f"got {job.model.aggregate!r}"
    if (number := num_processes(job.trainer)) > 1:
        problem = f"{value} with {number} processes, whose gradients are averaged by DDP; set trainer.devices and "
        problem += "trainer.num_nodes to 1, or "
        raise ConfigError(FieldProblem("model.aggregate", f"{problem}model.aggregate to none"))
    if precision_of(job.trainer) == "16-mixed":
        problem = f"{value} with precision 16-mixed, which scales a single loss, not one per task; "
        raise ConfigError(FieldProblem("model.aggregate", f"{problem}set trainer.precision to bf16-mixed or 32-true"))
