"""Learning rate and weight decay of every parameter, from the first step."""

from typing import Any

import pytest
import torch
from torch import nn

from backbones.meta_device import built_on_meta
from pipelines.base.records import Category
from pipelines.model import MultiTaskModel, build_model
from pipelines.optim.param_groups import create_optimizer, parameter_groups
from pipelines.spec.load import apply_override, validate_document
from pipelines.spec.model import ModelSpec

Document = dict[str, Any]

HEADS = ["heads.identity", "heads.scene", "heads.shapes"]
NETWORK = "backbone.body.network."


def model_of(document: Document, **values: Any) -> tuple[ModelSpec, MultiTaskModel]:
    for name, value in values.items():
        document = apply_override(document, f"model.{name.replace('__', '.')}", value)
    spec = validate_document(document).model
    torch.manual_seed(0)
    return spec, build_model(spec, {task: [Category(k, f"{k}") for k in range(3)] for task in spec.tasks})


def names_by_group(model: MultiTaskModel, spec: ModelSpec) -> dict[str, list[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {group["name"]: [names[id(p)] for p in group["params"]] for group in parameter_groups(model, spec)}


def rates_by_name(model: MultiTaskModel, spec: ModelSpec) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in parameter_groups(model, spec) for p in group["params"]}


@pytest.fixture(scope="module")
def spec(small: Document) -> ModelSpec:
    return validate_document(small).model


@pytest.fixture(scope="module")
def network(small: Document) -> MultiTaskModel:
    return model_of(small)[1]


@pytest.mark.parametrize("by", ["stage", "layer"])
@pytest.mark.parametrize("name", ["timm:resnet10t", "convnext_atto", "densenet121", "tv:vgg11_bn", "tv:googlenet"])
def test_shape_and_depth_determine_the_group_of_every_parameter(name: str, by: str, small: Document) -> None:
    with built_on_meta():
        spec, model = model_of(small, backbone__name=name, layer_decay_by=by)
    groups = names_by_group(model, spec)
    assert sorted(name for names in groups.values() for name in names) == sorted(dict(model.named_parameters()))
    for group, names in groups.items():
        unit, _, decay = group.partition("/")
        for parameter in names:
            part = model.part_of(parameter)
            layer = model.backbone.layers.get(parameter.removeprefix("backbone."))
            assert unit == (part if by == "stage" or layer is None else f"layer {layer}")
            assert decay == ("decay" if model.get_parameter(parameter).ndim > 1 else "no_decay")


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("vit_tiny", {"pos_embed", "cls_token"}),
        ("swin_tiny", {"relative_position_bias_table"}),
        ("tv:convnext_tiny", {"layer_scale"}),
    ],
)
def test_backbone_parameters_that_are_not_weights_of_layers_have_no_decay(
    name: str, spared: set[str], small: Document
) -> None:
    with built_on_meta():
        spec, model = model_of(small, backbone__name=name)
    groups = names_by_group(model, spec)
    without = [parameter for group, names in groups.items() if group.endswith("/no_decay") for parameter in names]
    assert {p.rpartition(".")[2] for p in without if model.get_parameter(p).ndim > 1} == spared


def test_groups_do_not_depend_on_frozen_parts(network: MultiTaskModel, spec: ModelSpec) -> None:
    groups = names_by_group(network, spec)
    network.freeze(frozenset({"c3", "c4", "heads.scene"}))
    assert names_by_group(network, spec) == groups
    network.freeze(frozenset())


def test_rate_decreases_from_the_heads_to_the_stem_by_stage(small: Document) -> None:
    optimizer = {"lr": 0.1, "weight_decay": 0.3}
    spec, model = model_of(small, layer_decay=0.5, optimizer=optimizer)
    groups = [(group["name"], round(group["lr"], 10), group["weight_decay"]) for group in parameter_groups(model, spec)]
    rates = {"c3": 0.0125, "c4": 0.025, "c5": 0.05, "neck": 0.1, **dict.fromkeys(HEADS, 0.1)}
    assert groups == [
        (f"{part}/{decay}", rate, 0.3 if decay == "decay" else 0.0)
        for part, rate in rates.items()
        for decay in ("decay", "no_decay")
    ]


def test_rate_decreases_from_layer_to_layer(small: Document) -> None:
    spec, model = model_of(small, layer_decay=0.5, layer_decay_by="layer", optimizer={"lr": 0.1})
    rates = rates_by_name(model, spec)
    # The network of the document has a stem and six blocks, which are seven layers.
    assert rates[f"{NETWORK}conv1.0.weight"] == pytest.approx(0.1 / 2**7)
    assert rates[f"{NETWORK}bn1.weight"] == pytest.approx(0.1 / 2**7)
    assert rates[f"{NETWORK}layer1.0.conv1.weight"] == pytest.approx(0.1 / 2**6)
    assert rates[f"{NETWORK}layer4.0.bn2.bias"] == pytest.approx(0.1 / 2)
    assert {rate for name, rate in rates.items() if not name.startswith("backbone.")} == {0.1}
    units = list(dict.fromkeys(group.partition("/")[0] for group in names_by_group(model, spec)))
    assert units == [*(f"layer {k}" for k in range(7)), "neck", *HEADS]


@pytest.mark.parametrize("by", ["stage", "layer"])
def test_factors_of_stages_and_tasks_multiply_the_rate(by: str, small: Document) -> None:
    scale = {"stages": {"c3": 0.0, "c5": 3.0, "neck": 0.5}, "tasks": {"scene": 10.0, "shapes": 0.0}}
    plain = rates_by_name(*reversed(model_of(small, layer_decay=0.5, layer_decay_by=by)))
    spec, model = model_of(small, layer_decay=0.5, layer_decay_by=by, lr_scale=scale)
    factors = {
        "c3": 0.0, "c4": 1.0, "c5": 3.0, "neck": 0.5, "heads.identity": 1.0, "heads.scene": 10.0, "heads.shapes": 0.0,
    }  # fmt: skip
    rates = rates_by_name(model, spec)
    assert rates.keys() == plain.keys()
    for name, rate in rates.items():
        assert rate == pytest.approx(plain[name] * factors[model.part_of(name)])


def test_order_of_tasks_does_not_change_the_optimizer_state(small: Document) -> None:
    tasks = small["model"]["tasks"]
    spec, forwards = model_of(small)
    _, backwards = model_of(small, tasks=dict(reversed(tasks.items())))
    assert list(dict(reversed(tasks.items()))) != list(tasks)
    orders = []
    for model in (forwards, backwards):
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = create_optimizer(model, spec, fused=True).param_groups
        orders.append([(group["name"], [names[id(p)] for p in group["params"]]) for group in groups])
    assert orders[0] == orders[1]
    assert [name for name, _ in forwards.named_parameters()] == [name for name, _ in backwards.named_parameters()]


def test_parameters_of_a_group_are_in_natural_order_of_names(small: Document) -> None:
    with built_on_meta():
        spec, model = model_of(small, backbone__name="timm:resnet26")
        names = names_by_group(model, spec)["c3/no_decay"]
        for module in model.modules():
            module._modules = dict(reversed(module._modules.items()))
    assert names_by_group(model, spec)["c3/no_decay"] == names
    assert names[:2] == [f"{NETWORK}bn1.bias", f"{NETWORK}bn1.weight"]
    with built_on_meta():
        spec, model = model_of(small, backbone__name="tv:vgg11_bn")
    features = [int(name.split(".")[4]) for name in names_by_group(model, spec)["c3/decay"]]
    assert features == [0, 4, 8, 11, 15, 18]


def test_extra_parameters_have_the_base_rate_and_no_decay(network: MultiTaskModel, spec: ModelSpec) -> None:
    balance = nn.ParameterDict({"b": torch.zeros(2, 2), "a": torch.zeros(3)})
    without = parameter_groups(network, spec)
    groups = parameter_groups(network, spec, {"balance": balance, "empty": nn.Identity()})
    assert [group["name"] for group in groups] == [*(group["name"] for group in without), "balance/no_decay"]
    assert [id(p) for p in groups[-1]["params"]] == [id(balance["a"]), id(balance["b"])]
    assert (groups[-1]["lr"], groups[-1]["weight_decay"]) == (spec.optimizer.lr, 0.0)
    optimizer = create_optimizer(network, spec, fused=True, extra={"balance": balance})
    assert optimizer.param_groups[-1]["name"] == "balance/no_decay"


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_part_with_a_factor_of_zero_never_changes(name: str, small: Document) -> None:
    scale = {"stages": {"c4": 0}, "tasks": {"scene": 0}}
    spec, model = model_of(small, lr_scale=scale, optimizer={"name": name, "lr": 0.1, "weight_decay": 0.3})
    before = {key: value.clone() for key, value in model.named_parameters()}
    model.freeze(spec.lr_scale.frozen_parts)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    create_optimizer(model, spec, fused=False).step()
    for key, value in model.named_parameters():
        assert torch.equal(value, before[key]) == (model.part_of(key) in ("c4", "heads.scene"))


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_optimizer_has_the_class_and_settings_of_the_document(
    name: str, kind: type, network: MultiTaskModel, spec: ModelSpec
) -> None:
    settings = spec.optimizer.model_copy(update={"name": name, "momentum": 0.8, "betas": (0.8, 0.99)})
    optimizer = create_optimizer(network, spec.model_copy(update={"optimizer": settings}), fused=False)
    assert type(optimizer) is kind
    if kind is torch.optim.SGD:
        assert (optimizer.defaults["momentum"], optimizer.defaults["nesterov"]) == (0.8, True)
    else:
        assert optimizer.defaults["betas"] == (0.8, 0.99)
