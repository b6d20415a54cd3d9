"""Compiled layers compute the same as others, whatever is frozen and whatever shape batches have."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from heads.base import ClassTarget, Target
from pipelines.base.errors import ConfigError
from pipelines.base.records import Category
from pipelines.model import MultiTaskModel, build_model
from pipelines.spec.load import load_job
from pipelines.spec.model import ModelSpec
from pipelines.training.balancing import GlobalLosses, global_losses
from pipelines.training.compilation import (
    compile_layers,
    forget_compiled_layers,
    require_compilation_fits,
    without_compilation,
)
from pipelines.training.gradients import gradient_statistics, last_shared_layer

TASKS: dict[str, Any] = {"kind": {"head": "multiclass", "level": "p4"}, "signs": {"head": "multilabel", "level": "c5"}}


class Counting:
    """A backend that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.num_graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        self.num_graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def model() -> MultiTaskModel:
    torch.manual_seed(0)
    spec = {"backbone": {"name": "resnet14_thin", "weights": "none"}, "neck": {"channels": 16}, "tasks": TASKS}
    categories = {task: [Category(k + 1, str(k)) for k in range(3)] for task in TASKS}
    return build_model(ModelSpec.model_validate(spec), categories).train()


def losses_of(model: MultiTaskModel, side: int = 64) -> GlobalLosses:
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    signs = ClassTarget(torch.tensor([0.0, 1.0, 1.0]))
    targets: dict[str, list[Target | None]] = {"kind": [ClassTarget(torch.tensor(2)), None], "signs": [signs, signs]}
    return global_losses(model.loss(images, targets, [(side, side)] * 2))


def gradients(model: MultiTaskModel) -> dict[str, Tensor]:
    model.zero_grad()
    torch.stack(list(losses_of(model).tasks.values())).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
def test_gradients_statistics_and_names_are_those_without_compilation(model: MultiTaskModel) -> None:
    plain = copy.deepcopy(model)
    compile_layers(model, "aot_eager")
    assert list(model.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(gradients(model), gradients(plain))
    torch.testing.assert_close(model.state_dict(), plain.state_dict())
    found, expected = (gradient_statistics(losses_of(m), last_shared_layer(m)) for m in (model, plain))
    assert found == pytest.approx(expected, rel=1e-4)


def test_each_shape_is_compiled_once(model: MultiTaskModel) -> None:
    counting = Counting()
    compile_layers(model, counting)
    counts = []
    for side in (64, 64, 96, 64):
        losses_of(model, side)
        counts.append(counting.num_graphs)
    assert 0 < counts[0] == counts[1] < counts[2] == counts[3]


def test_unfrozen_parts_get_gradients(model: MultiTaskModel) -> None:
    plain = copy.deepcopy(model)
    counting = Counting()
    compile_layers(model, counting)
    for frozen in (frozenset({"c3", "neck"}), frozenset[str]()):
        for network in (model, plain):
            network.freeze(frozen)
            forget_compiled_layers(network)
        before = counting.num_graphs
        found, expected = gradients(model), gradients(plain)
        assert counting.num_graphs > before
        assert found.keys() == expected.keys()
        assert {model.part_of(name) for name in found}.isdisjoint(frozen)
        torch.testing.assert_close(found, expected)


def test_evaluation_is_not_compiled(model: MultiTaskModel) -> None:
    plain = copy.deepcopy(model).eval()
    counting = Counting()
    compile_layers(model.eval(), counting)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with without_compilation(model):
        found = model.predict(images, [(64, 64)] * 2)
    assert counting.num_graphs == 0
    for one, other in zip(found["kind"], plain.predict(images, [(64, 64)] * 2)["kind"], strict=True):
        assert torch.equal(one.scores, other.scores)


def test_copy_of_a_compiled_network_is_not_compiled(model: MultiTaskModel) -> None:
    counting = Counting()
    compile_layers(model, counting)
    losses_of(copy.deepcopy(model))
    assert counting.num_graphs == 0


def test_missing_compiler_is_reported_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    job = load_job(["recipe:bccd"], [("trainer.compile", "true"), ("trainer.accelerator", "cpu")])
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"trainer\.compile: got true, but no compiler is on the PATH \(g\+\+"):
        require_compilation_fits(job)
    require_compilation_fits(load_job(["recipe:bccd"], []))


def test_aggregation_of_gradients_is_not_compiled() -> None:
    overrides = [("trainer.compile", "true"), ("model.aggregate", "upgrad"), ("trainer.accelerator", "cpu")]
    with pytest.raises(ConfigError, match=r"trainer\.compile: got true with model\.aggregate: upgrad"):
        require_compilation_fits(load_job(["recipe:bccd_multitask"], overrides))
