"""Frozen parts have no gradient and no backward pass below the lowest trainable stage, and keep their statistics."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from heads.base import ClassTarget, Target
from pipelines.base.records import Category
from pipelines.model import MultiTaskModel, build_model
from pipelines.spec.model import ModelSpec
from tests.bench.frozen_stages import saved_bytes

SPEC = ModelSpec.model_validate(
    {
        "backbone": {"name": "timm:test_resnet", "weights": "none"},
        "neck": {"channels": 16, "norm": "bn"},
        "tasks": {"kind": {"head": "multiclass"}, "cells": {"head": "fcos", "num_convs": 1}},
    }
)
STAGES = ("c3", "c4", "c5")


@pytest.fixture(scope="module")
def built() -> MultiTaskModel:
    torch.manual_seed(0)
    return build_model(SPEC, {task: [Category(k, str(k)) for k in range(3)] for task in SPEC.tasks})


@pytest.fixture
def model(built: MultiTaskModel) -> MultiTaskModel:
    """Return a model in train mode, with a BatchNorm in a head."""
    model = copy.deepcopy(built)
    model.heads["kind"].dropout = nn.BatchNorm1d(model.heads["kind"].linear.in_features)
    return model.train()


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def loss(model: MultiTaskModel, images: Tensor) -> Tensor:
    targets: dict[str, list[Target | None]] = {
        "kind": [ClassTarget(torch.tensor(0)), ClassTarget(torch.tensor(2))],
        "cells": [None, None],
    }
    losses = model.loss(images, targets, [(64, 64)] * 2)
    return sum((total for terms in losses.values() for total, _ in terms.values()), torch.zeros(()))


def loss_with_graph(model: MultiTaskModel, images: Tensor) -> Tensor:
    total = loss(model, images)
    assert total.requires_grad
    return total


def statistics(model: MultiTaskModel) -> Iterator[tuple[str, str, Tensor]]:
    """Yield part, name and value of every running statistic."""
    for name, buffer in model.named_buffers():
        if "running_" in name:
            yield model.part_of(name.rpartition(".")[0] + ".weight"), name, buffer


def test_each_frozen_stage_reduces_the_memory_kept_for_the_backward_pass(model: MultiTaskModel, images: Tensor) -> None:
    sizes = []
    for count in range(4):
        model.freeze(frozenset(STAGES[:count]))
        sizes.append(saved_bytes(model, lambda: loss_with_graph(model, images)))
    assert sizes == sorted(set(sizes), reverse=True)
    assert len(sizes) == 4


@pytest.mark.parametrize("count", range(4))
def test_levels_below_the_lowest_trainable_stage_require_no_gradient(
    count: int, model: MultiTaskModel, images: Tensor
) -> None:
    model.freeze(frozenset(STAGES[:count]))
    features = model.features(images)
    assert [level for level in STAGES if features[level].requires_grad] == list(STAGES[count:])
    assert all(features[level].requires_grad for level in ("p3", "p4", "p5", "p6", "p7"))


@pytest.mark.parametrize(
    "frozen",
    [
        {"c3"}, {"c4", "c5"}, {"c5"}, {"c3", "c4", "c5"}, {"neck"}, {"heads.kind"}, {"c3", "c4", "c5", "neck"},
        {"c3", "c4", "c5", "neck", "heads.kind"}, {"c3", "c4", "c5", "neck", "heads.cells"},
    ],
    ids=lambda parts: "+".join(sorted(parts)),
)  # fmt: skip
def test_only_frozen_parts_have_no_gradient_and_keep_their_statistics(
    frozen: set[str], model: MultiTaskModel, images: Tensor
) -> None:
    loss(model, images).backward()
    model.freeze(frozenset(frozen))
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)
    model.zero_grad()
    before = {name: value.clone() for _, name, value in statistics(model)}
    model.eval()
    model.train()
    loss(model, images).backward()
    with_gradient = {model.part_of(name) for name, parameter in model.named_parameters() if parameter.grad is not None}
    without = {model.part_of(name) for name, parameter in model.named_parameters() if parameter.grad is None}
    assert (with_gradient, without) == ({*model.parts} - frozen, frozen)
    parts = {part for part, _, _ in statistics(model)}
    assert parts == {*STAGES, "neck", "heads.kind"}
    assert {part for part, name, value in statistics(model) if not value.equal(before[name])} == parts - frozen


def test_unfrozen_parts_have_the_gradients_of_parts_that_were_never_frozen(
    model: MultiTaskModel, images: Tensor
) -> None:
    twin = copy.deepcopy(model)
    model.freeze(frozenset(model.parts[1:]))
    model.freeze(frozenset())
    for one in (model, twin):
        torch.manual_seed(0)
        loss(one, images).backward()
    for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, other.grad)


def test_norm_without_weights_is_frozen_with_its_surrounding_stage(model: MultiTaskModel, images: Tensor) -> None:
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    name = next(name for name in norms if model.part_of(f"{name}.weight") == "c4")
    owner, _, attribute = name.rpartition(".")
    bare = nn.BatchNorm2d(model.get_submodule(name).num_features, affine=False)
    setattr(model.get_submodule(owner), attribute, bare)
    model.freeze(frozenset({"c4"}))
    model.train()
    before = bare.running_mean.clone()
    model.features(images)
    assert bare.running_mean.equal(before)
    model.freeze(frozenset({"c3", "c5", "neck"}))
    model.features(images)
    assert not bare.running_mean.equal(before)


def test_parts_are_the_stages_the_neck_and_each_head(model: MultiTaskModel) -> None:
    assert model.parts == ("c3", "c4", "c5", "neck", "heads.cells", "heads.kind")
    assert {model.part_of(name) for name, _ in model.named_parameters()} == set(model.parts)
    assert {model.part_of(name) for name, _ in model.named_parameters() if ".kind." in name} == {"heads.kind"}


def test_unknown_part_is_rejected(model: MultiTaskModel) -> None:
    with pytest.raises(ValueError, match=r"^parts: got \['heads'\]; choose from \['c3', 'c4', "):
        model.freeze(frozenset({"heads"}))
