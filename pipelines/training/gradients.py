"""Norms and angles of the tasks' gradients in the last shared layer.

Legend: T tasks, P elements of the last shared layer.
"""

import math
from collections.abc import Sequence

import torch
import torch.distributed
from torch import Tensor, nn

from pipelines.base.ranks import is_distributed, world_size
from pipelines.model import MultiTaskModel
from pipelines.training.balancing import GlobalLosses


def last_shared_layer(model: MultiTaskModel) -> list[nn.Parameter]:
    """Return the trainable weights that represent the shared part: the last weight (not a bias or norm) of the
    backbone's c5, else all weights of the neck, else the last weight of c4 or c3; empty if all of these are frozen."""
    by_part: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.ndim > 1:
            by_part.setdefault(model.part_of(name), []).append(parameter)
    if "c5" not in by_part and "neck" in by_part:
        return by_part["neck"]
    return next((by_part[stage][-1:] for stage in ("c5", "c4", "c3") if stage in by_part), [])


def gradient_statistics(losses: GlobalLosses, layer: Sequence[nn.Parameter]) -> dict[str, float | None]:
    """Return `gradients/norm/<task>` and, for each pair of tasks, `gradients/cosine/<a>.<b>`, of the unweighted losses.

    The gradients are those of the joint batch of all ranks; all ranks must call this and get the same numbers. None
    stands for the norm of an inactive task, a cosine with a gradient of length zero, and a number that is not finite.

    This has no side effects: the graph is kept, `.grad` is unchanged, no random numbers are drawn, and DDP's hooks are
    not called.

    Args:
        losses: of one micro-batch, before its backward pass.
        layer: see `last_shared_layer`; at least one parameter.
    """
    rows = [_flat_gradient(loss, layer) for loss in losses.tasks.values()]
    gradients_TP = torch.stack(rows)
    if is_distributed():
        torch.distributed.all_reduce(gradients_TP)
        gradients_TP /= world_size()
    gradients_TP = gradients_TP.double()
    gramian = (gradients_TP @ gradients_TP.T).cpu()
    is_active = losses.is_active.tolist()
    norms = [math.sqrt(gramian[i, i]) if is_active[i] else None for i in range(len(rows))]
    tasks = list(losses.tasks)
    found = {f"gradients/norm/{task}": _finite(norm) for task, norm in zip(tasks, norms, strict=True)}
    for i, j in torch.combinations(torch.arange(len(tasks))).tolist():
        product, (one, other) = float(gramian[i, j]), (norms[i], norms[j])
        name = f"gradients/cosine/{tasks[i]}.{tasks[j]}"
        found[name] = _finite(product / (one * other)) if one and other else None
    return found


def _flat_gradient(loss: Tensor, layer: Sequence[nn.Parameter]) -> Tensor:
    """Return (P,), float32."""
    found: Sequence[Tensor | None] = [None] * len(layer)
    if loss.requires_grad:
        # The training step runs under autocast, but a backward pass must not.
        with torch.autocast(loss.device.type, enabled=False):
            found = torch.autograd.grad(loss, layer, retain_graph=True, allow_unused=True)
    parts = [torch.zeros_like(of) if part is None else part for of, part in zip(layer, found, strict=True)]
    return torch.cat([part.detach().float().flatten() for part in parts])


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
