"""Losses of tasks from their terms, and their weights; test_two_rank_losses.py tests them on two ranks."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from heads.base import LossTerms
from pipelines.run_folder.events import read_events
from pipelines.training.balancing import LIMIT, FixedBalance, GlobalLosses, UncertaintyBalance, global_losses
from pipelines.training.module import MultiTaskModule


def term(total: float, count: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(total, requires_grad=True), torch.tensor(count)


def losses_of(**values: float) -> GlobalLosses:
    """Return losses with one term per task; a task with value 0 has no labels."""
    return global_losses({task: {"x": term(value, float(value != 0))} for task, value in values.items()})


def total(weighted: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(weighted.values())).sum()


def test_each_term_is_divided_by_its_count_and_each_task_weighted() -> None:
    losses = {"cells": {"boxes": term(6.0, 4.0), "classes": term(3.0, 2.0)}, "kind": {"ce": term(10.0, 5.0)}}
    combined = global_losses(losses)
    assert {name: float(value) for name, value in combined.terms.items()} == {
        "cells/boxes": 1.5,
        "cells/classes": 1.5,
        "kind/ce": 2.0,
    }
    assert {task: loss.item() for task, loss in combined.tasks.items()} == {"cells": 3.0, "kind": 2.0}
    weighted = FixedBalance({"cells": 2.0, "kind": 0.5})(combined)
    assert {task: loss.item() for task, loss in weighted.items()} == {"cells": 6.0, "kind": 1.0}
    total(weighted).backward()
    assert losses["cells"]["boxes"][0].grad == pytest.approx(2.0 / 4)
    assert losses["kind"]["ce"][0].grad == pytest.approx(0.5 / 5)


def test_term_with_count_zero_keeps_its_sum() -> None:
    combined = global_losses({"cells": {"classes": term(3.0, 0.0)}})
    assert combined.tasks["cells"].item() == float(combined.terms["cells/classes"]) == 3.0


def test_task_is_active_if_a_batch_has_labels_for_it() -> None:
    losses: dict[str, LossTerms] = {
        "empty_images": {"boxes": term(0.0, 0.0), "classes": term(3.0, 0.0)},
        "no_labels": {"boxes": term(0.0, 0.0), "classes": term(0.0, 0.0)},
        "solved": {"ce": term(0.0, 5.0)},
    }
    found = global_losses(losses)
    assert found.is_active.tolist() == [True, False, True]
    assert found.is_present.tolist() == [False, True, False, False, True]


def test_terms_are_unweighted_and_detached() -> None:
    combined = global_losses({"kind": {"ce": term(4.0, 2.0)}})
    assert float(combined.terms["kind/ce"]) == 2.0
    assert not combined.terms["kind/ce"].requires_grad


def test_half_precision_terms_are_added_in_float32() -> None:
    half = torch.tensor(1000.0, dtype=torch.bfloat16), torch.tensor(3.0)
    assert global_losses({"kind": {"ce": half}}).tasks["kind"].dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_term_does_not_affect_other_terms(value: float) -> None:
    terms = global_losses({"a": {"x": term(1.0, 1.0)}, "b": {"x": term(value, 1.0)}}).terms
    assert [name for name, mean in terms.items() if not torch.isfinite(mean)] == ["b/x"]


def test_uncertainty_weighs_by_exp_of_minus_s_and_adds_half_of_s() -> None:
    balance = UncertaintyBalance({"a": 2.0, "b": 1.0})
    balance.log_variances.data = torch.tensor([math.log(4.0), -1.0])
    losses = losses_of(a=3.0, b=5.0)
    weighted = balance(losses)
    assert weighted["a"].item() == pytest.approx(2 * 3 / 4 + math.log(4) / 2)
    assert weighted["b"].item() == pytest.approx(math.e * 5 - 0.5)
    total(weighted).backward()
    assert balance.log_variances.grad is not None
    assert balance.log_variances.grad.tolist() == pytest.approx([-2 * 3 / 4 + 0.5, -math.e * 5 + 0.5])
    assert balance.factors() == pytest.approx({"a": 0.25, "b": math.e})


def test_uncertainty_balance_initially_equals_the_fixed_balance() -> None:
    weights, losses = {"a": 2.0, "b": 0.5}, losses_of(a=3.0, b=5.0)
    assert UncertaintyBalance(weights)(losses) == FixedBalance(weights)(losses)


def test_log_variance_of_a_constant_loss_converges_to_log_of_twice_the_weighted_loss() -> None:
    balance = UncertaintyBalance({"a": 2.0, "b": 1.0})
    optimizer = torch.optim.SGD(balance.parameters(), lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        total(balance(losses_of(a=3.0, b=0.1))).backward()
        optimizer.step()
    assert balance.log_variances.tolist() == pytest.approx([math.log(12.0), math.log(0.2)], abs=1e-4)


def test_unlabeled_task_adds_nothing_and_its_log_variance_has_no_gradient() -> None:
    balance = UncertaintyBalance({"a": 1.0, "b": 1.0})
    balance.log_variances.data = torch.tensor([0.5, 0.5])
    weighted = balance(losses_of(a=3.0, b=0.0))
    assert weighted["b"].item() == 0.0
    total(weighted).backward()
    assert balance.log_variances.grad is not None
    assert balance.log_variances.grad[1] == 0.0
    assert balance.log_variances.grad[0] != 0.0


@pytest.mark.parametrize(("far", "loss_that_leads_back", "sign"), [(50.0, 0.001, 1.0), (-50.0, 1.0, -1.0)])
def test_log_variance_beyond_its_limit_is_clamped_and_can_move_back(
    far: float, loss_that_leads_back: float, sign: float
) -> None:
    balance = UncertaintyBalance({"a": 1.0})
    balance.log_variances.data.fill_(far)
    optimizer = torch.optim.SGD(balance.parameters(), lr=0.01)
    total(balance(losses_of(a=loss_that_leads_back))).backward()
    assert balance.log_variances.tolist() == [sign * LIMIT]
    assert balance.log_variances.grad is not None
    assert balance.log_variances.grad.sign().tolist() == [sign]
    optimizer.step()
    assert balance.log_variances.abs().item() < LIMIT


class Watch(Callback):
    """Records the last learned factors (not averaged), and the optimizer's groups by name."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, MultiTaskModule)
        self.factors = pl_module.balance.factors()
        self.network = pl_module.model.state_dict().keys()
        self.groups = {group["name"]: group for group in trainer.optimizers[0].param_groups}


def test_learned_balance_trains_without_decay_is_reported_and_not_in_best_checkpoint(
    small_document: dict[str, Any], train: Callable[..., Any], tmp_path: Path
) -> None:
    small_document["model"] |= {"balance": "uncertainty", "schedule": {}}
    watch = Watch()
    run_dir = train(small_document, tmp_path / "learned", watch)
    tasks = sorted(small_document["model"]["tasks"])

    group = watch.groups["balance/no_decay"]
    assert group["initial_lr"] == small_document["model"]["optimizer"]["lr"]
    assert group["weight_decay"] == 0.0
    learned = torch.load(run_dir.last_checkpoint, weights_only=True)["state_dict"]["balance.log_variances"]
    assert learned.shape == (len(tasks),)
    assert learned.all()

    progress = [event.data for event in read_events(run_dir.events) if event.kind == "progress"]
    last = {task: progress[-1][f"balance/{task}"] for task in tasks}
    assert last == watch.factors
    assert any(abs(factor - 1) > 1e-3 for factor in last.values())

    best = torch.load(run_dir.best_checkpoint, weights_only=True)["state_dict"]
    assert best.keys() == watch.network


def test_fixed_balance_has_no_state_in_a_checkpoint() -> None:
    assert not FixedBalance({"a": 1.0}).state_dict()
    assert FixedBalance({"a": 1.0}).factors() == {}
