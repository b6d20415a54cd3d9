"""The tasks' gradients of shared parameters are combined as defined in the papers; each head gets its own gradient."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchjd.aggregation import UPGradWeighting

from heads.base import BoxTarget, ClassTarget, Target
from pipelines.base.errors import ConfigError
from pipelines.base.records import Category
from pipelines.model import MultiTaskModel, build_model
from pipelines.spec.load import validate_document
from pipelines.spec.model import ModelSpec
from pipelines.training.aggregation import Aggregation, NNLSProjector, require_aggregation_fits
from pipelines.training.balancing import global_losses

Gradients = dict[str, Tensor]

MODEL = ModelSpec.model_validate(
    {
        "backbone": {"name": "resnet14_thin", "weights": "none"},
        "neck": {"channels": 16},
        "tasks": {
            "cells": {"head": "fcos", "num_convs": 1},
            "kind": {"head": "multiclass", "level": "c5"},
            "signs": {"head": "multilabel", "level": "p4"},
        },
    }
)
TASKS, RULES = sorted(MODEL.tasks), ("pcgrad", "upgrad", "mgda")


def new_model() -> MultiTaskModel:
    torch.manual_seed(0)
    return build_model(MODEL, {task: [Category(k + 1, str(k)) for k in range(3)] for task in TASKS})


def batch(*unlabeled: str) -> tuple[Tensor, dict[str, list[Target | None]], list[tuple[int, int]]]:
    """Return four images, the targets of all tasks except the unlabeled ones, and the sizes of the images."""
    random = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, 64, 96), dtype=torch.uint8, generator=random)
    targets: dict[str, list[Target | None]] = {task: [] for task in TASKS}
    for image in range(4):
        corners = torch.rand(3, 2, generator=random) * 40
        boxes = torch.cat([corners, corners + 16], dim=1)
        labels = torch.randint(0, 3, (3,), generator=random)
        targets["cells"].append(BoxTarget(boxes, labels, torch.zeros(3, dtype=torch.bool), labels))
        targets["kind"].append(ClassTarget(torch.tensor(image % 3)))
        targets["signs"].append(ClassTarget(torch.eye(3)[image % 3]))
    return images, {t: [None] * 4 if t in unlabeled else found for t, found in targets.items()}, [(64, 96)] * 4


def of_task(task: str, factor: float, *unlabeled: str, frozen: tuple[str, ...] = ()) -> Gradients:
    """Return the gradients of a single task's loss by plain autograd."""
    model = new_model()
    model.freeze(frozenset(frozen))
    (global_losses(model.loss(*batch(*unlabeled))).tasks[task] * factor).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


def joined(
    rule: str, factors: dict[str, float], *unlabeled: str, frozen: tuple[str, ...] = (), batches: int = 1
) -> MultiTaskModel:
    """Return a model after the backward pass of the tasks in `factors`, the others counting as unlabeled."""
    model = new_model()
    model.freeze(frozenset(frozen))
    aggregation = Aggregation(rule, model)
    for _ in range(batches):
        losses = global_losses(aggregation.loss(*batch(*unlabeled)))
        weighted = {task: loss * factors.get(task, 0.0) for task, loss in losses.tasks.items()}
        is_active = dict(zip(weighted, losses.is_active.tolist(), strict=True))
        torch.manual_seed(5)
        aggregation.keep(weighted, [is_active[task] and task in factors for task in weighted], batches)
        aggregation.backward()
    return model


def shared(gradients: Gradients) -> Tensor:
    return torch.cat([g.flatten() for name, g in sorted(gradients.items()) if not name.startswith("heads.")]).double()


def gradients_of(model: MultiTaskModel) -> Gradients:
    found = {name: p.grad for name, p in model.named_parameters()}
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def by_hand(rule: str, one: Tensor, other: Tensor) -> Tensor:
    """Combine two gradients; PCGrad's algorithm 1 and UPGrad's projections (equation 3) have the same sum."""
    product = one @ other
    if rule == "mgda":  # Sener and Koltun 2018, algorithm 1
        share = ((other - one) @ other / (one - other).square().sum()).clamp(0, 1)
        return share * one + (1 - share) * other
    if product >= 0:
        return one + other
    return (one - product / (other @ other) * other) + (other - product / (one @ one) * one)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("rule", RULES)
def test_gradients_of_two_tasks_are_combined_as_by_hand_and_heads_get_their_own(rule: str, sign: float) -> None:
    factors = {"cells": 0.4, "kind": sign}
    one, other = (of_task(task, factor) for task, factor in factors.items())
    assert bool(shared(one) @ shared(other) < 0) == (sign < 0)
    model = joined(rule, factors)
    found = gradients_of(model)
    expected = by_hand(rule, shared(one), shared(other))
    torch.testing.assert_close(shared(found), expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    for name, gradient in found.items():
        if name.startswith("heads."):
            own = one if name.startswith("heads.cells.") else other
            torch.testing.assert_close(gradient, own[name], rtol=1e-4, atol=1e-6)
    assert found.keys() == dict(model.named_parameters()).keys()


def brute_force(gramian: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Minimize v' G v for v >= lower, by trying all sets of entries at their lower bounds."""
    size = len(lower)
    best, least = lower, np.inf
    for is_free in itertools.product([False, True], repeat=size):
        free, bound = np.flatnonzero(is_free), np.flatnonzero(~np.array(is_free))
        v = lower.copy()
        if len(free):
            right = -gramian[np.ix_(free, bound)] @ lower[bound]
            v[free] = np.linalg.lstsq(gramian[np.ix_(free, free)], right, rcond=None)[0]
        if (v >= lower - 1e-12).all() and v @ gramian @ v < least:
            best, least = v, v @ gramian @ v
    return best


def three_by_definition(rule: str, rows: Tensor) -> Tensor:
    """Combine three gradients: PCGrad by its algorithm 1, UPGrad by `brute_force`, MGDA by a grid of weights."""
    if rule == "upgrad":
        weights = [brute_force((rows @ rows.T).numpy(), lower) for lower in np.eye(3)]
        return torch.from_numpy(np.sum(weights, axis=0)) @ rows
    if rule == "mgda":
        steps = torch.arange(201) / 200
        grid = torch.cartesian_prod(steps, steps).double()
        grid = torch.cat([grid, 1 - grid.sum(dim=1, keepdim=True)], dim=1)
        grid = grid[grid[:, 2] >= 0]
        return grid[((grid @ (rows @ rows.T)) * grid).sum(dim=1).argmin()] @ rows
    total = torch.zeros_like(rows[0])
    torch.manual_seed(5)
    for i in range(3):
        row = rows[i].clone()
        for j in torch.randperm(3).tolist():
            if j != i and row @ rows[j] < 0:
                row -= row @ rows[j] / (rows[j] @ rows[j]) * rows[j]
        total += row
    return total


@pytest.mark.parametrize(("rule", "tolerance"), [("pcgrad", 1e-5), ("upgrad", 1e-5), ("mgda", 0.05)])
def test_gradients_of_three_conflicting_tasks_are_combined_as_defined(rule: str, tolerance: float) -> None:
    factors = {"cells": 0.4, "kind": -1.0, "signs": 1.0}
    rows = torch.stack([shared(of_task(task, factor)) for task, factor in factors.items()])
    assert sum(bool(rows[i] @ rows[j] < 0) for i, j in itertools.combinations(range(3), 2)) >= 2
    expected = three_by_definition(rule, rows)
    found = shared(gradients_of(joined(rule, factors)))
    assert float((found - expected).norm() / expected.norm()) < tolerance
    assert float((rows.sum(dim=0) - expected).norm() / expected.norm()) > 0.01


@pytest.mark.parametrize("rule", RULES)
def test_single_labeled_task_is_trained_as_without_aggregation(rule: str) -> None:
    unlabeled = ("cells", "signs")
    model = joined(rule, dict.fromkeys(TASKS, 1.0), *unlabeled)
    plain = new_model()
    sum(global_losses(plain.loss(*batch(*unlabeled))).tasks.values()).backward()  # type: ignore[union-attr]
    expected = gradients_of(plain)
    assert gradients_of(model).keys() == expected.keys() == dict(plain.named_parameters()).keys()
    for name, gradient in gradients_of(model).items():
        assert torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize("rule", RULES)
def test_unlabeled_task_does_not_contribute_and_its_head_gets_zero_gradients(rule: str) -> None:
    found = gradients_of(joined(rule, dict.fromkeys(TASKS, 1.0), "cells"))
    one, other = (of_task(task, 1.0, "cells") for task in ("kind", "signs"))
    expected = by_hand(rule, shared(one), shared(other))
    torch.testing.assert_close(shared(found), expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    of_head = [gradient for name, gradient in found.items() if name.startswith("heads.cells.")]
    assert of_head
    assert not any(gradient.any() for gradient in of_head)


@pytest.mark.parametrize("rule", RULES)
def test_heads_are_trained_as_without_aggregation_if_all_shared_parts_are_frozen(rule: str) -> None:
    frozen = ("c3", "c4", "c5", "neck")
    found = gradients_of(joined(rule, dict.fromkeys(TASKS, 1.0), frozen=frozen))
    assert {name.split(".")[0] for name in found} == {"heads"}
    own = {task: of_task(task, 1.0, frozen=frozen) for task in TASKS}
    for name, gradient in found.items():
        assert torch.equal(gradient, own[name.split(".")[1]][name]), name


@pytest.mark.parametrize("rule", RULES)
def test_task_without_a_gradient_of_shared_parameters_does_not_change_theirs(rule: str) -> None:
    """`kind` reads c5, which is frozen; MGDA would choose its zero gradient as the shortest combination."""
    frozen = ("c3", "c4", "c5", "heads.signs")
    found = gradients_of(joined(rule, {"cells": 1.0, "kind": 1.0}, frozen=frozen))
    of_cells, of_kind = (of_task(task, 1.0, frozen=frozen) for task in ("cells", "kind"))
    for name, gradient in found.items():
        expected = of_kind if name.startswith("heads.kind.") else of_cells
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


def test_accumulated_gradients_are_means_over_batches_in_the_layout_of_the_parameters() -> None:
    """A fused optimizer on the CPU reads gradients in the parameter's layout, even if they have another one."""
    factors = {"cells": 0.4, "kind": -1.0}
    model = joined("pcgrad", factors, batches=2)
    found, once = gradients_of(model), gradients_of(joined("pcgrad", factors))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], once[name], rtol=1e-3, atol=1e-5)
        assert found[name].stride() == parameter.stride(), name
        assert found[name].data_ptr() not in {g.data_ptr() for other, g in found.items() if other != name}
    assert any(p.is_contiguous(memory_format=torch.channels_last) and p.shape[2:] == (3, 3) for p in model.parameters())


@pytest.mark.parametrize("scale", [1.0, 1e-4])
@pytest.mark.parametrize("num_tasks", [2, 3, 5])
def test_projection_equals_that_of_brute_force(num_tasks: int, scale: float) -> None:
    for seed in range(20):
        rows = np.random.default_rng(seed).normal(size=(num_tasks, 7))
        rows[0] *= scale
        gramian = rows @ rows.T
        found = NNLSProjector()(torch.eye(num_tasks, dtype=torch.float64), torch.from_numpy(gramian))  # type: ignore[arg-type]
        for lower, weights in zip(np.eye(num_tasks), found.numpy(), strict=True):
            np.testing.assert_allclose(rows.T @ weights, rows.T @ brute_force(gramian, lower), atol=1e-9)
            assert (rows @ (rows.T @ weights) > -1e-9).all()


def test_zero_opposite_and_equal_gradients_are_projected() -> None:
    rows = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0], [0.0, 3.0], [0.0, 3.0]])
    weights = UPGradWeighting(pref_vector=torch.ones(5), projector=NNLSProjector())(rows @ rows.T)
    torch.testing.assert_close(weights @ rows, torch.tensor([0.0, 6.0]))


class FirstStep(Callback):
    """Records the gradients of the first optimizer step, before clipping, and the final weights."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if trainer.global_step == 0:
            self.gradients = {name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.weights = {name: p.detach().clone() for name, p in pl_module.named_parameters()}


@pytest.mark.integration
def test_training_changes_gradients_of_shared_parameters_but_not_of_heads(
    small_document: dict[str, Any], train: Callable[..., Any], tmp_path: Path
) -> None:
    """The training has steps of two batches, bf16, clipping and averaged weights."""
    small_document["trainer"] |= {"max_epochs": 1, "precision": "bf16-mixed"}
    small_document["data"]["image_size"] = 64
    steps = {}
    for rule in ("none", "pcgrad", "mgda"):
        small_document["model"]["aggregate"] = rule
        train(small_document, tmp_path / rule, steps.setdefault(rule, FirstStep()))
        assert all(bool(weight.isfinite().all()) for weight in steps[rule].weights.values())
    plain = steps["none"].gradients
    for rule in ("pcgrad", "mgda"):
        found = steps[rule].gradients
        assert found.keys() == plain.keys()
        for name, gradient in found.items():
            if name.startswith("model.heads."):
                torch.testing.assert_close(gradient, plain[name], rtol=1e-3, atol=1e-5)
        assert any(not torch.allclose(g, plain[n], rtol=0.1) for n, g in found.items() if "backbone" in n)


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({"devices": 2}, "model.aggregate: got 'pcgrad' with 2 processes"),
        ({"precision": "16-mixed"}, "model.aggregate: got 'pcgrad' with precision 16-mixed"),
    ],
)
def test_aggregation_with_several_processes_or_16_bit_scaling_is_rejected(
    trainer: dict[str, Any], message: str, small_document: dict[str, Any]
) -> None:
    small_document["trainer"] |= trainer
    require_aggregation_fits(validate_document(small_document))
    small_document["model"]["aggregate"] = "pcgrad"
    with pytest.raises(ConfigError, match=message):
        require_aggregation_fits(validate_document(small_document))


def test_rejected_aggregation_ends_the_command_before_anything_is_written(
    command: Callable[..., int], job_yaml: Path, demo_root: Path, tmp_path: Path
) -> None:
    words = ("fit", "--config", job_yaml, "--data-root", demo_root.parent, "--run-dir", tmp_path / "run")
    assert command(*words, "--model.aggregate=upgrad", "--trainer.devices=2") == 78
    assert not (tmp_path / "run" / "events.jsonl").exists()
