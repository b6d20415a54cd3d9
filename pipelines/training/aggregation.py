"""The tasks' gradients of what they share, joined by another rule than addition (TorchJD).

Legend: T tasks that are active in this micro-batch.
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
from pipelines.errors import ConfigError, FieldProblem
from pipelines.model import MultiTaskModel
from pipelines.spec.job import JobSpec
from pipelines.training.trainer import num_processes, precision_of


class NNLSProjector(DualConeProjector):
    """Projects onto the dual cone of the tasks' gradients by non-negative least squares (Lawson and Hanson, scipy's).

    TorchJD's own needs quadprog, which is GPL. Its quadratic program (Quinton and Rey 2024, arXiv 2406.16232,
    proposition 1), v with the least v' G v and v >= u, is |A (y + x)| with x >= 0 where G = D A' A D, D the gradients'
    norms, y = D u and D v = y + x. Divided by their norms, a task with small gradients is projected as exactly as one
    with large ones; nothing is regularized.
    """

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:
        """Return v for each row of U (..., T), given G (T, T)."""
        gramian = G.detach().cpu().double().numpy()
        norms = np.sqrt(gramian.diagonal())
        scale = np.where(norms > 0, norms, 1.0)
        values, vectors = np.linalg.eigh(gramian / np.outer(scale, scale))
        factor = np.sqrt(values.clip(min=0))[:, None] * vectors.T
        wanted = U.detach().cpu().double().numpy().reshape(-1, len(gramian)) * scale
        found = [(row + nnls(factor, -factor @ row)[0]) / scale for row in wanted]
        return torch.from_numpy(np.stack(found)).to(G).reshape(U.shape)


class _OfMovingTasks(Weighting[PSDMatrix]):
    """Weighs the tasks that have a gradient at all; with one of length zero MGDA would let nothing move."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, gramian: PSDMatrix, /) -> Tensor:
        """Return (T,) weights, given the products (T, T) of the tasks' gradients."""
        moves = (gramian.diagonal() > 0).nonzero().squeeze(1)
        weights = gramian.new_zeros(len(gramian))
        if len(moves) > 0:
            weights[moves] = self._rule(len(moves))(gramian[moves][:, moves]).to(weights)
        return weights

    def _rule(self, num_tasks: int) -> Weighting[PSDMatrix]:
        """Return a rule that, for one task alone and (MGDA apart) for tasks without conflict, is addition."""
        if self.name == "pcgrad":
            return PCGradWeighting()
        if self.name == "upgrad":
            return UPGradWeighting(pref_vector=torch.ones(num_tasks), projector=NNLSProjector())
        return MGDAWeighting()


class Aggregation:
    """The backward pass of one micro-batch where `model.aggregate` is not none.

    Backbone and neck get what the rule makes of the gradients of the weighted losses of the active tasks; each head
    gets its own task's gradient. Where there is no conflict to solve (one active task, or nothing shared trains), it
    is the plain backward pass.

    - pcgrad: Yu et al. 2020, arXiv 2001.06782, algorithm 1. Its random orders are those of torch's generator, which
      the training module seeds by (seed, epoch, batch).
    - upgrad: Quinton and Rey 2024, arXiv 2406.16232; the sum of the projected gradients where the paper has the mean,
      so that rates mean what they do without aggregation.
    - mgda: Sener and Koltun 2018, arXiv 1810.04650, algorithm 2: the shortest convex combination. It has the scale of
      one task's gradient, not of the sum.

    Args:
        name: pcgrad, upgrad or mgda.
        model: what is trained; its parameters are taken as they are at each backward pass (frozen or not).
    """

    def __init__(self, name: str, model: MultiTaskModel) -> None:
        self.model = model
        self._rule = GramianWeightedAggregator(_OfMovingTasks(name))
        self._read: list[Tensor] = []
        self._losses: dict[str, Tensor] = {}
        self._active: list[str] = []

    def loss(
        self,
        images: Tensor,
        targets: Mapping[str, Sequence[Target | None]],
        image_sizes_hw: Sequence[tuple[int, int]],
    ) -> dict[str, LossTerms]:
        """Return what `MultiTaskModel.loss` does; `keep` and `backward` must follow."""
        features = self.model.features(images)
        # Levels are computed from each other. Heads read views, which are not: a gradient is counted once.
        views = {level: feature.view_as(feature) for level, feature in features.items()}
        self._read = [view for view in views.values() if view.requires_grad]
        return self.model.losses_of(views, targets, image_sizes_hw)

    def keep(self, losses: Mapping[str, Tensor], is_active: Sequence[bool], num_batches: int) -> None:
        """Keep the weighted losses of the last `loss` by task, and which of them are active; gradients are divided by
        `num_batches`."""
        self._losses = {task: loss / num_batches for task, loss in losses.items()}
        self._active = [task for task, is_one in zip(losses, is_active, strict=True) if is_one]

    def backward(self) -> None:
        """Add to the gradients of all trainable parameters."""
        read, losses, self._read, self._losses = self._read, self._losses, [], {}
        active = [task for task in self._active if losses[task].requires_grad]
        shared = [p for part in (self.model.backbone, self.model.neck) for p in _trainable(part)]
        if not read or not shared or len(active) < 2:
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            return
        with _laid_out_as([*shared, *_trainable(self.model.heads)]):
            self._join(losses, active, read, shared)

    def _join(
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
def _laid_out_as(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Add the gradients that come in here to those there were before, laid out in memory as the parameters are.

    TorchJD leaves them in the layout that came, which fused optimizers on the CPU take for the parameter's without a
    word (torch 2.15), and two of them may share memory.
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
    """Raise ConfigError where `model.aggregate` is asked for with what it cannot be done with."""
    if job.model.aggregate == "none":
        return
    asked = f"got {job.model.aggregate!r}"
    if (number := num_processes(job.trainer)) > 1:
        problem = (
            f"{asked} with {number} processes, whose gradients DDP adds up as they come; set trainer.devices to 1, or "
        )
        raise ConfigError(FieldProblem("model.aggregate", f"{problem}model.aggregate to none"))
    if precision_of(job.trainer) == "16-mixed":
        problem = f"{asked} with 16-mixed, which scales the one loss of a step, where there is one a task; "
        raise ConfigError(FieldProblem("model.aggregate", f"{problem}set trainer.precision to bf16-mixed or 32-true"))
