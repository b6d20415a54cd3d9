"""Losses, gradients and their statistics of two processes equal those of one process with the joint batch.

Two processes are spawned once and run all cases; the tests check the files that they write.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from heads.base import BoxTarget, ClassTarget, IdentityTarget, MixedClassTarget, Target
from pipelines.base.records import Category
from pipelines.model import build_model
from pipelines.spec.model import ModelSpec
from pipelines.training.balancing import UncertaintyBalance, global_losses
from pipelines.training.gradients import gradient_statistics, last_shared_layer
from tests.ranks import run_ranks

Document = dict[str, Any]
Targets = dict[str, list[Target | None]]

LOSSES = ("proxy_anchor", "arcface", "supcon")
MODEL = ModelSpec.model_validate(
    {
        "backbone": {"name": "resnet14_thin", "weights": "none"},
        "neck": {"channels": 16},
        "tasks": {
            "cells": {"head": "fcos", "num_convs": 1},
            "rings": {"head": "retinanet", "num_convs": 1, "box_loss": "giou", "weight": 0.7},
            "spots": {"head": "faster_rcnn", "roi_channels": 32, "anchor_samples": 40, "roi_samples": 16},
            "kind": {"head": "multiclass", "label_smoothing": 0.1, "weight": 2.0},
            "signs": {"head": "multilabel"},
            **{f"image_{loss}": {"head": "embedding", "dim": 8, "loss": loss, "weight": 0.1} for loss in LOSSES},
            **{
                f"object_{loss}": {"head": "embedding", "dim": 8, "loss": loss, "of": "objects", "boxes_from": "cells"}
                for loss in LOSSES
            },
        },
    }
)
TASKS = sorted(MODEL.tasks)
NUM_CLASSES = 3
IMAGES_OF = ((0, 1, 2, 3), (4, 5))
"""By rank: its images, from a joint batch of six."""


class Step(nn.Module):
    """Maps a batch to the total loss, as the module that DDP wraps; BatchNorm and dropout are in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        categories = {task: [Category(k + 1, str(k)) for k in range(NUM_CLASSES)] for task in TASKS}
        class_weights = {"kind": torch.tensor([0.5, 1.0, 3.0]), "signs": torch.tensor([2.0, 1.0, 0.5])}
        self.model = build_model(MODEL, categories, class_weights=class_weights).eval()
        self.balance = UncertaintyBalance({task: MODEL.tasks[task].weight for task in TASKS})
        torch.nn.init.uniform_(self.balance.log_variances, -1, 1)

    def forward(self, images: Tensor, targets: Targets, is_measured: bool) -> tuple[Tensor, Document]:
        losses = global_losses(self.model.loss(images, targets, [(64, 96)] * len(images)))
        report: Document = {"terms": losses.terms, "is_active": losses.is_active}
        if is_measured:
            report["statistics"] = gradient_statistics(losses, last_shared_layer(self.model))
        return torch.stack(list(self.balance(losses).values())).sum(), report


def joint_batch(seed: int) -> tuple[Tensor, Targets]:
    """Return six images, each labeled for every task."""
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (6, 3, 64, 96), dtype=torch.uint8, generator=random)
    targets: Targets = {task: [] for task in TASKS}
    for image in range(6):
        corners = torch.rand(3, 2, generator=random) * 40
        boxes = torch.cat([corners, corners + 8 + 16 * torch.rand(3, 2, generator=random)], dim=1)
        labels = torch.randint(0, NUM_CLASSES, (3,), generator=random)
        for task in TASKS:
            if task in ("cells", "rings", "spots") or task.startswith("object"):
                is_crowd = torch.tensor([False, False, image == 1])
                targets[task].append(BoxTarget(boxes, labels, is_crowd, labels))
            elif task == "kind":
                mixed = MixedClassTarget(labels[:2], torch.tensor([0.7, 0.3]))
                targets[task].append(mixed if image in (1, 5) else ClassTarget(labels[0]))
            elif task == "signs":
                targets[task].append(ClassTarget(torch.bincount(labels, minlength=NUM_CLASSES).clamp(max=1).float()))
            else:
                targets[task].append(IdentityTarget(torch.tensor(image % NUM_CLASSES)))
    return images, targets


def unlabeled(batch: tuple[Tensor, Targets], tasks: list[str], images: tuple[int, ...]) -> tuple[Tensor, Targets]:
    pixels, targets = batch
    kept = {t: [None if t in tasks and b in images else x for b, x in enumerate(of)] for t, of in targets.items()}
    return pixels, kept


def emptied(batch: tuple[Tensor, Targets], images: tuple[int, ...]) -> tuple[Tensor, Targets]:
    def empty(target: Target | None) -> Target | None:
        if not isinstance(target, BoxTarget):
            return target
        return BoxTarget(target.boxes_xyxy[:0], target.labels[:0], target.is_crowd[:0], target.identities[:0])

    pixels, targets = batch
    return pixels, {t: [empty(x) if b in images else x for b, x in enumerate(of)] for t, of in targets.items()}


ALL = joint_batch(1)
MIXED = unlabeled(
    unlabeled(ALL, ["cells", "kind", "object_supcon", "image_arcface"], (4, 5)),
    ["rings", "signs", "spots"],
    (0, 1, 2, 3),
)
CASES: dict[str, list[tuple[Tensor, Targets]]] = {
    "all labeled": [ALL],
    "labels of some tasks are missing on either rank": [MIXED],
    "rank 1 has no label at all": [unlabeled(ALL, TASKS, (4, 5))],
    "rank 0 has no label at all": [unlabeled(ALL, TASKS, (0, 1, 2, 3))],
    "three tasks have no label anywhere": [unlabeled(ALL, ["cells", "spots", "object_arcface"], (0, 1, 2, 3, 4, 5))],
    "nothing is labeled": [unlabeled(ALL, TASKS, (0, 1, 2, 3, 4, 5))],
    "all images of rank 1 are empty": [emptied(ALL, (4, 5))],
    "all images are empty": [emptied(ALL, (0, 1, 2, 3, 4, 5))],
    "a window of two batches": [MIXED, unlabeled(joint_batch(2), ["kind", "image_supcon"], (0, 1, 2, 3))],
}  # fmt: skip


def of_rank(batch: tuple[Tensor, Targets], rank: int) -> tuple[Tensor, Targets]:
    chosen = list(IMAGES_OF[rank])
    return batch[0][chosen], {task: [targets[b] for b in chosen] for task, targets in batch[1].items()}


def gradients(step: nn.Module, window: list[tuple[Tensor, Targets]]) -> Document:
    """Return the gradients of a window, accumulated as by the trainer, and the report of its last batch."""
    step.zero_grad()
    for position, (images, targets) in enumerate(window):
        is_last = position + 1 == len(window)
        sync = isinstance(step, DistributedDataParallel) and not is_last
        with step.no_sync() if sync else torch.enable_grad():
            total, report = step(images, targets, is_last)
            (total / len(window)).backward()
    named = ((name.removeprefix("module."), parameter.grad) for name, parameter in step.named_parameters())
    return {**report, "gradients": {name: None if grad is None else grad.clone() for name, grad in named}}


def run_rank(rank: int, folder: Path) -> None:
    """Run all cases on one rank, and save the results."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    step = DistributedDataParallel(Step())
    results = {name: gradients(step, [of_rank(batch, rank) for batch in window]) for name, window in CASES.items()}
    distributed.destroy_process_group()
    torch.save(results, folder / f"rank{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """Return terms and gradients of each case, by rank."""
    folder = tmp_path_factory.mktemp("losses")
    run_ranks(run_rank, 2, folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_those_of_one_process_with_the_joint_batch(case: str, ranks: list[Document]) -> None:
    expected = gradients(Step(), CASES[case])
    for rank in ranks:
        found = rank[case]
        torch.testing.assert_close(found["terms"], expected["terms"], rtol=1e-5, atol=1e-5)
        assert found["statistics"] == {n: x and pytest.approx(x, abs=1e-4) for n, x in expected["statistics"].items()}
        for name, gradient in expected["gradients"].items():
            assert gradient is not None, name
            limit = 1e-5 * max(1.0, float(gradient.abs().max()))
            assert float((found["gradients"][name] - gradient).abs().max()) <= limit, name


def test_every_head_has_a_nonzero_gradient_if_all_tasks_are_labeled() -> None:
    """Otherwise the comparison above would compare zeros."""
    found = gradients(Step(), [ALL])["gradients"]
    for task in TASKS:
        assert any(float(g.abs().max()) > 1e-3 for name, g in found.items() if name.startswith(f"model.heads.{task}."))


def test_tasks_without_labels_on_any_rank_do_not_change_the_balance_and_have_no_statistics(
    ranks: list[Document],
) -> None:
    idle = {"cells", "spots", "object_arcface"}
    for rank in ranks:
        found = rank["three tasks have no label anywhere"]
        active = dict(zip(TASKS, found["is_active"].tolist(), strict=True))
        assert active == {task: task not in idle for task in TASKS}
        moves = dict(zip(TASKS, found["gradients"]["balance.log_variances"].tolist(), strict=True))
        assert {task for task, gradient in moves.items() if gradient == 0} == idle
        statistics = found["statistics"]
        assert {task for task in TASKS if statistics[f"gradients/norm/{task}"] is None} == idle
        assert all(
            (value is None) == bool(idle & set(name.split("/")[-1].split("."))) for name, value in statistics.items()
        )
