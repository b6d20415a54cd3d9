"""Optimizer groups: every parameter is in its final group from step 0."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from pipelines.model import MultiTaskModel
from pipelines.spec.model import ModelSpec

DISTANCE = {"c5": 1, "c4": 2, "c3": 3}
"""Distance of each stage from the neck and the heads; c3 includes the stem."""


@dataclass(frozen=True, order=True)
class GroupKey:
    """Common properties of the parameters of one group. Keys are ordered from the stem to the heads.

    Attributes:
        depth: position of the stage or layer in the backbone; the neck and the heads come after it.
        unit: a stage, `layer <n>`, `neck` or `heads.<task>`.
        no_decay: True for parameters without weight decay: biases, norms and other vectors, and parameters of a
            backbone that are not weights of layers (position embeddings and biases, tokens, temperatures), as in the
            papers on transformers.
    """

    depth: int
    unit: str
    no_decay: bool

    def __str__(self) -> str:
        return f"{self.unit}/{'no_decay' if self.no_decay else 'decay'}"


def group_keys(model: MultiTaskModel, spec: ModelSpec) -> dict[str, GroupKey]:
    """Return the group of every parameter by name, sorted by group and then by name.

    The order depends on names alone, because an optimizer's state identifies parameters by position.
    """
    keys = {}
    for name, parameter in model.named_parameters():
        unit = model.part_of(name)
        depth = model.parts.index(unit)
        if unit not in DISTANCE:
            depth += _num_layers(model)
        elif spec.layer_decay_by == "layer":
            depth = _layer(model, name)
            unit = f"layer {depth}"
        is_weight = name.endswith("weight") or not name.startswith("backbone.")
        keys[name] = GroupKey(depth, unit, parameter.ndim <= 1 or not is_weight)
    return dict(sorted(keys.items(), key=lambda item: (item[1], _natural(item[0]))))


def rate_of(model: MultiTaskModel, spec: ModelSpec, name: str) -> float:
    """Return a parameter's learning rate: lr * layer_decay ** distance * its factor in `lr_scale`.

    The distance is 0 for the neck and the heads, 1 for c5 or the last layer, and grows toward the stem.
    """
    assert spec.layer_decay is not None
    part = model.part_of(name)
    distance = DISTANCE.get(part, 0)
    if distance and spec.layer_decay_by == "layer":
        distance = _num_layers(model) - _layer(model, name)
    factors: dict[str, float] = {f"heads.{task}": factor for task, factor in spec.lr_scale.tasks.items()}
    factors.update(spec.lr_scale.stages.items())
    return float(spec.optimizer.lr * spec.layer_decay**distance * factors.get(part, 1.0))


def _num_layers(model: MultiTaskModel) -> int:
    return 1 + max(model.backbone.layers.values())


def _layer(model: MultiTaskModel, name: str) -> int:
    return model.backbone.layers[name.removeprefix("backbone.")]


def _natural(name: str) -> list[str | int]:
    """Return a sort key that puts block 10 after block 9."""
    return [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", name)]


def parameter_groups(
    model: MultiTaskModel, spec: ModelSpec, extra: Mapping[str, nn.Module] | None = None
) -> list[dict[str, Any]]:
    """Return one group per part (or layer) and choice of weight decay; each parameter, even a frozen one, is in one.

    Args:
        model: the network; any of its parts can be frozen.
        spec: the section `model` of a validated document.
        extra: other modules by name; their parameters get the base learning rate and no weight decay.
    """
    parameters = dict(model.named_parameters())
    groups: dict[GroupKey, dict[str, Any]] = {}
    for name, key in group_keys(model, spec).items():
        decay = 0.0 if key.no_decay else spec.optimizer.weight_decay
        group = {"name": str(key), "params": [], "lr": rate_of(model, spec, name), "weight_decay": decay}
        groups.setdefault(key, group)["params"].append(parameters[name])
    extra_groups = [
        {"name": f"{name}/no_decay", "params": params, "lr": spec.optimizer.lr, "weight_decay": 0.0}
        for name, module in sorted((extra or {}).items())
        if (params := [p for _, p in sorted(module.named_parameters(), key=lambda item: _natural(item[0]))])
    ]
    return [*groups.values(), *extra_groups]


def create_optimizer(
    model: MultiTaskModel, spec: ModelSpec, *, fused: bool, extra: Mapping[str, nn.Module] | None = None
) -> Optimizer:
    """Return the optimizer over all parameters; `fused` is faster but cannot use scaled (fp16) gradients."""
    groups, settings = parameter_groups(model, spec, extra), spec.optimizer
    if settings.name == "sgd":
        return SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0, fused=fused)
    return AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)
