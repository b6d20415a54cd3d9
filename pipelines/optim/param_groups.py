"""Every parameter in its final optimiser group from step 0."""

from typing import Any

from torch.optim import SGD, AdamW, Optimizer

from pipelines.model import MultiTaskModel
from pipelines.spec.model import ModelSpec

DISTANCE = {"neck": 0, "heads": 0, "c5": 1, "c4": 2, "c3": 3}
"""How far a stage is from the heads; c3 has the stem."""


def parameter_groups(model: MultiTaskModel, spec: ModelSpec) -> list[dict[str, Any]]:
    """Return groups by (stage, decay or not), each parameter in exactly one, frozen ones too.

    lr = lr * layer_decay ** distance; biases, norms and other vectors have no weight decay. The order of groups
    and of parameters inside them depends on names alone.
    """
    assert spec.layer_decay is not None
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in sorted(model.named_parameters()):
        stage = model.stage_of(name)
        decays = parameter.ndim > 1
        key = f"{stage}/{'decay' if decays else 'no_decay'}"
        group = groups.setdefault(
            key,
            {
                "name": key,
                "params": [],
                "lr": spec.optimizer.lr * spec.layer_decay ** DISTANCE[stage],
                "weight_decay": spec.optimizer.weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def create_optimizer(model: MultiTaskModel, spec: ModelSpec, *, fused: bool) -> Optimizer:
    """Return the optimiser over all parameters; `fused` is quicker, and unfit for scaled (fp16) gradients."""
    groups, wanted = parameter_groups(model, spec), spec.optimizer
    if wanted.name == "sgd":
        return SGD(groups, lr=wanted.lr, momentum=wanted.momentum, nesterov=wanted.momentum > 0, fused=fused)
    return AdamW(groups, lr=wanted.lr, betas=wanted.betas, fused=fused)
