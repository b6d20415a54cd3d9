"""Norms and cosines of the tasks' gradients; test_two_rank_losses.py tests them on two ranks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from heads.base import ClassTarget, Target
from pipelines.base.records import Category
from pipelines.model import MultiTaskModel, build_model
from pipelines.run_folder.events import read_events
from pipelines.spec.model import ModelSpec
from pipelines.training.balancing import GlobalLosses, global_losses
from pipelines.training.gradients import gradient_statistics, last_shared_layer

TASKS = ("kind", "signs", "tint")


@pytest.fixture
def model() -> MultiTaskModel:
    torch.manual_seed(0)
    spec = ModelSpec.model_validate(
        {
            "backbone": {"name": "resnet14_thin", "weights": "none"},
            "neck": {"channels": 16},
            "tasks": {
                "kind": {"head": "multiclass", "level": "c5", "weight": 3.0},
                "signs": {"head": "multilabel", "level": "p4"},
                "tint": {"head": "multiclass", "level": "p3"},
            },
        }
    )
    return build_model(spec, {task: [Category(k + 1, str(k)) for k in range(3)] for task in TASKS})


def losses_of(model: MultiTaskModel, *unlabeled: str) -> GlobalLosses:
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    targets: dict[str, list[Target | None]] = {task: [None] * 4 for task in TASKS}
    for task in set(TASKS) - set(unlabeled):
        label = torch.eye(3) if task == "signs" else torch.arange(3)
        targets[task] = [ClassTarget(label[b % 3]) for b in range(4)]
    return global_losses(model.loss(images, targets, [(64, 64)] * 4))


def gradient_of(model: MultiTaskModel, task: str, parts: tuple[str, ...], *unlabeled: str) -> Tensor:
    """Return the gradient of one task's loss in some parameters, flattened."""
    model.zero_grad()
    losses_of(model, *unlabeled).tasks[task].backward()
    return torch.cat([dict(model.named_parameters())[name].grad.flatten().double() for name in parts])  # type: ignore[union-attr]


def names_of(model: MultiTaskModel, layer: list[torch.nn.Parameter]) -> tuple[str, ...]:
    return tuple(name for name, parameter in model.named_parameters() if any(parameter is p for p in layer))


def test_norms_and_cosines_equal_those_of_separate_backward_passes(model: MultiTaskModel) -> None:
    layer = last_shared_layer(model)
    names = names_of(model, layer)
    assert len(names) == 1
    assert model.part_of(names[0]) == "c5"
    found = gradient_statistics(losses_of(model), layer)
    alone = {task: gradient_of(model, task, names) for task in TASKS}
    expected = {f"gradients/norm/{task}": float(gradient.norm()) for task, gradient in alone.items()}
    for one, other in (("kind", "signs"), ("kind", "tint"), ("signs", "tint")):
        cosine = torch.nn.functional.cosine_similarity(alone[one], alone[other], dim=0)
        expected[f"gradients/cosine/{one}.{other}"] = float(cosine)
    assert found == pytest.approx(expected, rel=1e-4)
    assert min(found[f"gradients/norm/{task}"] or 0 for task in TASKS) > 1e-6


def test_norm_and_cosines_of_a_task_without_labels_are_undefined(model: MultiTaskModel) -> None:
    found = gradient_statistics(losses_of(model, "signs"), last_shared_layer(model))
    assert {name for name, value in found.items() if value is None} == {
        "gradients/norm/signs",
        "gradients/cosine/kind.signs",
        "gradients/cosine/signs.tint",
    }


def test_last_shared_layer_is_the_trainable_one_nearest_to_the_heads(model: MultiTaskModel) -> None:
    def parts() -> set[str]:
        return {model.part_of(name) for name in names_of(model, last_shared_layer(model))}

    assert parts() == {"c5"}
    model.freeze(frozenset({"c5"}))
    assert parts() == {"neck"}
    weights = [name for name, p in model.named_parameters() if name.startswith("neck.") and p.ndim > 1]
    assert set(names_of(model, last_shared_layer(model))) == set(weights)
    model.freeze(frozenset({"c5", "neck"}))
    assert parts() == {"c4"}
    model.freeze(frozenset({"c3", "c4", "c5", "neck"}))
    assert last_shared_layer(model) == []


def test_task_that_does_not_use_the_layer_has_norm_zero_and_undefined_cosines(model: MultiTaskModel) -> None:
    model.freeze(frozenset({"c3", "c4", "c5"}))
    found = gradient_statistics(losses_of(model), last_shared_layer(model))
    assert found["gradients/norm/kind"] == 0.0
    assert found["gradients/cosine/kind.tint"] is None
    assert found["gradients/cosine/signs.tint"] is not None


def test_statistics_of_a_non_finite_loss_are_undefined(model: MultiTaskModel) -> None:
    losses = losses_of(model)
    losses.tasks["kind"] = losses.tasks["kind"] * 1e38 * 1e38
    found = gradient_statistics(losses, last_shared_layer(model))
    assert found["gradients/norm/kind"] is None
    assert found["gradients/cosine/kind.signs"] is None
    assert found["gradients/norm/signs"] is not None


class LastState(Callback):
    """Records the weights after the last step, before they are averaged."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}


@pytest.mark.parametrize("aggregate", ["none", pytest.param("mgda", marks=pytest.mark.integration)])
def test_training_is_bit_identical_with_and_without_statistics(
    aggregate: str, small_document: dict[str, Any], train: Callable[..., Any], tmp_path: Path
) -> None:
    """The training has BatchNorm, dropout, steps of two batches (the last one is shorter), and bf16."""
    small_document["trainer"] |= {"max_epochs": 1, "precision": "bf16-mixed"}
    small_document["data"]["image_size"] = 64
    small_document["model"]["aggregate"] = aggregate
    states, reported = [], []
    for every in (0, 1):
        small_document["model"]["gradients_every_n_steps"] = every
        states.append(LastState())
        run_dir = train(small_document, tmp_path / str(every), states[-1])
        events = [e for e in read_events(run_dir.events) if e.kind == "metric"]
        reported.append({e.step: e.data for e in events if "gradients/norm/scene" in e.data})
    without, with_ = states
    assert all(torch.equal(tensor, with_.state[name]) for name, tensor in without.state.items())

    assert reported[0] == {}
    assert sorted(reported[1]) == [1, 2, 3]
    tasks = sorted(small_document["model"]["tasks"])
    pairs = [f"{one}.{other}" for i, one in enumerate(tasks) for other in tasks[i + 1 :]]
    names = {*(f"gradients/norm/{task}" for task in tasks), *(f"gradients/cosine/{pair}" for pair in pairs)}
    for statistics in reported[1].values():
        assert statistics.keys() == names
        assert all(-1 <= statistics[name] <= 1 for name in names if "cosine" in name)


def test_statistics_are_logged_at_every_nth_step_and_not_for_a_single_task(
    small_document: dict[str, Any], train: Callable[..., Any], tmp_path: Path
) -> None:
    small_document["trainer"] |= {"accumulate_grad_batches": 1, "max_epochs": 1}
    small_document["model"]["gradients_every_n_steps"] = 2

    def steps(name: str) -> list[int]:
        events = read_events(train(small_document, tmp_path / name).events)
        return [e.step for e in events if e.kind == "metric" and any("gradients" in key for key in e.data)]

    assert steps("three tasks") == [2, 4]
    small_document["model"]["tasks"] = {"shapes": small_document["model"]["tasks"]["shapes"]}
    small_document["model"]["select"] = None
    for source in small_document["data"]["sources"].values():
        source["labels"] = [{**source["labels"][0], "tasks": ["shapes"]}]
    assert steps("one task") == []
