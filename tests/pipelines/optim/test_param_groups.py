"""Every parameter has its rate and its decay from the first step on."""

from typing import Any

import pytest
import torch

from pipelines.data.records import Category
from pipelines.model import MultiTaskModel, build_model
from pipelines.optim.param_groups import create_optimizer, parameter_groups
from pipelines.spec.load import apply_override, validate_document
from pipelines.spec.model import ModelSpec

Document = dict[str, Any]

FACTORS = {"heads": 1.0, "neck": 1.0, "c5": 0.5, "c4": 0.25, "c3": 0.125}


def model_of(document: Document) -> tuple[ModelSpec, MultiTaskModel]:
    spec = validate_document(document).model
    torch.manual_seed(0)
    return spec, build_model(spec, {task: [Category(k, f"{k}") for k in range(3)] for task in spec.tasks})


def with_optimizer(spec: ModelSpec, layer_decay: float = 0.5, **values: Any) -> ModelSpec:
    optimizer = spec.optimizer.model_copy(update=values)
    return spec.model_copy(update={"optimizer": optimizer, "layer_decay": layer_decay})


@pytest.fixture(scope="module")
def spec(small: Document) -> ModelSpec:
    return validate_document(small).model


@pytest.fixture(scope="module")
def network(small: Document) -> MultiTaskModel:
    return model_of(small)[1]


def test_every_parameter_is_in_one_group_frozen_or_not(network: MultiTaskModel, spec: ModelSpec) -> None:
    groups = parameter_groups(network, spec)
    members = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(members) == sorted(id(parameter) for parameter in network.parameters())
    network.freeze(frozenset({"c3", "c4"}))
    frozen = parameter_groups(network, spec)
    assert [[id(p) for p in group["params"]] for group in frozen] == [[id(p) for p in g["params"]] for g in groups]
    network.freeze(frozenset())


def test_rate_falls_with_the_distance_from_the_heads_and_vectors_do_not_decay(
    network: MultiTaskModel, spec: ModelSpec
) -> None:
    groups = parameter_groups(network, with_optimizer(spec, lr=0.1, weight_decay=0.3))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {group["name"].split("/")[0] for group in groups} == FACTORS.keys()
    for group in groups:
        assert group["lr"] == pytest.approx(0.1 * FACTORS[group["name"].split("/")[0]])
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.3 if parameter.ndim > 1 else 0.0)
            if names[id(parameter)].endswith("bias"):
                assert group["weight_decay"] == 0.0


def test_state_of_the_optimiser_fits_tasks_in_any_order(small: Document) -> None:
    tasks = small["model"]["tasks"]
    spec, forwards = model_of(small)
    _, backwards = model_of(apply_override(small, "model.tasks", dict(reversed(tasks.items()))))
    assert list(dict(reversed(tasks.items()))) != list(tasks)
    orders = []
    for model in (forwards, backwards):
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = create_optimizer(model, spec, fused=True).param_groups
        orders.append([(group["name"], [names[id(p)] for p in group["params"]]) for group in groups])
    assert orders[0] == orders[1]
    assert [name for name, _ in forwards.named_parameters()] == [name for name, _ in backwards.named_parameters()]


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_optimiser_is_the_one_asked_for(name: str, kind: type, network: MultiTaskModel, spec: ModelSpec) -> None:
    wanted = with_optimizer(spec, name=name, momentum=0.8, betas=(0.8, 0.99))
    optimizer = create_optimizer(network, wanted, fused=False)
    assert type(optimizer) is kind
    if kind is torch.optim.SGD:
        assert (optimizer.defaults["momentum"], optimizer.defaults["nesterov"]) == (0.8, True)
    else:
        assert optimizer.defaults["betas"] == (0.8, 0.99)
