"""Images that are labeled for some tasks only: each loss uses its own images, and every parameter gets a gradient."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from heads.base import BoxTarget, ClassPrediction, ClassTarget, IdentityTarget, LossTerms, Target
from pipelines.base.errors import ConfigError
from pipelines.base.records import Category
from pipelines.model import MultiTaskModel, build_model
from pipelines.spec.job import JobSpec
from pipelines.training.balancing import global_losses

Targets = dict[str, list[Target | None]]
SIZES_HW = [(64, 64), (64, 60), (50, 64)]


@pytest.fixture
def model(tiny_job: JobSpec, tiny_categories: dict[str, list[Category]]) -> MultiTaskModel:
    torch.manual_seed(0)
    return build_model(tiny_job.model, tiny_categories)


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 255, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def boxes() -> BoxTarget:
    corners = torch.tensor([[8.0, 8.0, 40.0, 40.0], [20.0, 30.0, 60.0, 60.0]])
    return BoxTarget(corners, torch.tensor([0, 2]), torch.zeros(2, dtype=torch.bool), torch.tensor([1, -1]))


def all_labeled() -> Targets:
    return {
        "cells": [boxes() for _ in range(3)],
        "kind": [ClassTarget(torch.tensor(b)) for b in range(3)],
        "signs": [ClassTarget(torch.eye(3)[b]) for b in range(3)],
        "lookup": [boxes() for _ in range(3)],
        "scene": [IdentityTarget(torch.tensor(b)) for b in range(3)],
    }


def sums(model: MultiTaskModel, images: Tensor, targets: Targets) -> dict[str, tuple[float, float]]:
    torch.manual_seed(0)
    losses = model.loss(images, targets, SIZES_HW[: len(images)])
    return {
        f"{task}/{term}": (total.item(), float(count))
        for task, terms in losses.items()
        for term, (total, count) in terms.items()
    }


@pytest.mark.parametrize("task", ["cells", "kind", "lookup", "scene", "signs"])
def test_task_without_a_labeled_image_adds_exactly_zero_and_keeps_all_gradients(
    task: str, model: MultiTaskModel, images: Tensor
) -> None:
    targets = all_labeled() | {task: [None, None, None]}
    model.eval()
    whole, without = sums(model, images, all_labeled()), sums(model, images, targets)
    assert whole.keys() == without.keys()
    for name, value in without.items():
        assert value == ((0.0, 0.0) if name.startswith(f"{task}/") else whole[name])

    torch.stack(
        list(global_losses(model.loss(images, targets, SIZES_HW[: len(images)])).tasks.values())
    ).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not name.startswith(f"heads.{task}.") or not parameter.grad.any(), name


def test_batch_without_any_label_has_zero_loss_and_zero_gradients(model: MultiTaskModel, images: Tensor) -> None:
    losses = global_losses(model.loss(images, {task: [None] * 3 for task in all_labeled()}, SIZES_HW))
    total = torch.stack(list(losses.tasks.values())).sum()
    total.backward()
    assert total.item() == 0.0
    assert not losses.is_active.any()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_image_contributes_only_to_losses_of_tasks_that_it_is_labeled_for(
    model: MultiTaskModel, images: Tensor
) -> None:
    model.eval()
    targets = all_labeled()
    partly = targets | {"kind": [None, targets["kind"][1], None], "cells": [targets["cells"][0], None, None]}
    found = sums(model, images, partly)
    first = {"cells": 0, "kind": 1}
    for task, position in first.items():
        alone = {name: [None, None, None] for name in targets} | {task: [targets[task][position]] * 1}
        expected = sums(model, images[position : position + 1], {t: alone[t][:1] for t in alone})
        for name, value in expected.items():
            if name.startswith(f"{task}/"):
                assert found[name] == pytest.approx(value, rel=1e-5)
    assert found["kind/cross_entropy"][1] == 1


def test_frozen_batch_norm_stays_in_eval_mode(model: MultiTaskModel) -> None:
    def modes() -> set[tuple[str | None, bool]]:
        norms = [(n, m) for n, m in model.backbone.named_modules() if isinstance(m, nn.BatchNorm2d)]
        return {(model.backbone.stages[f"{name}.weight"], module.training) for name, module in norms}

    model.train()
    model.freeze(frozenset({"c3", "c4"}))
    assert modes() == {("c3", False), ("c4", False), ("c5", True)}
    model.eval()
    model.train()
    assert modes() == {("c3", False), ("c4", False), ("c5", True)}
    model.freeze(frozenset())
    assert modes() == {("c3", True), ("c4", True), ("c5", True)}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_tasks_are_sorted_by_name(model: MultiTaskModel) -> None:
    assert list(model.heads) == ["cells", "kind", "lookup", "scene", "signs"]


def test_scores_of_tasks_with_a_temperature_are_calibrated(model: MultiTaskModel, images: Tensor) -> None:
    model.eval()
    before = model.predict(images, SIZES_HW, tasks=["kind", "signs"])
    model.temperatures = {"kind": 0.5}
    after = model.predict(images, SIZES_HW, tasks=["kind", "signs"])
    for own, other in zip(before["kind"], after["kind"], strict=True):
        assert isinstance(own, ClassPrediction)
        assert isinstance(other, ClassPrediction)
        # Twice the logits of a softmax are the squares of its scores, divided by their sum.
        torch.testing.assert_close(other.scores, own.scores**2 / (own.scores**2).sum())
    for own, other in zip(before["signs"], after["signs"], strict=True):
        assert isinstance(own, ClassPrediction)
        assert isinstance(other, ClassPrediction)
        torch.testing.assert_close(other.scores, own.scores)


def test_weights_that_do_not_fit_are_reported_with_their_field(
    tiny_job: JobSpec, tiny_categories: dict[str, list[Category]], tmp_path: Path
) -> None:
    torch.save({"elsewhere.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"^model\.backbone: weights .*nothing in this file fits the network"):
        build_model(tiny_job.model, tiny_categories, weights=str(tmp_path / "w.pth"))


def test_task_name_that_torch_reserves_is_rejected(
    tiny_job: JobSpec, tiny_categories: dict[str, list[Category]]
) -> None:
    spec = tiny_job.model.model_copy(update={"tasks": {"type": tiny_job.model.tasks["kind"]}})
    with pytest.raises(ConfigError, match=r"model\.tasks: got the names \['type'\], reserved by torch"):
        build_model(spec, {"type": tiny_categories["kind"]})


def test_head_gets_the_sizes_of_its_labeled_images(
    model: MultiTaskModel, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: dict[str, list[tuple[int, int]]] = {}
    for task, head in model.heads.items():

        def record(raw: object, targets: object, image_sizes_hw: list[tuple[int, int]], task: str = task) -> LossTerms:
            passed[task] = image_sizes_hw
            return {"term": (torch.zeros(()), torch.zeros(()))}

        monkeypatch.setattr(head, "loss", record)
    targets = all_labeled()
    partly = targets | {"kind": [None, *targets["kind"][1:]], "cells": [None, None, targets["cells"][2]]}
    model.loss(images, partly, SIZES_HW)
    assert passed == dict.fromkeys(targets, SIZES_HW) | {"kind": SIZES_HW[1:], "cells": SIZES_HW[2:]}


def test_model_with_folded_norms_stays_in_eval_mode(model: MultiTaskModel) -> None:
    model.train()
    model.fold_norms()
    assert [name for name, module in model.named_modules() if module.training] == []
