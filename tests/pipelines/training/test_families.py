"""Guarantees of several ranks, for different architectures: parameters stay bit-equal across every boundary of
`unfreeze`, gradients for partial labels equal those of one process, and resuming is bit-identical.

The ranks of a family are spawned once and run all scenarios; the tests check the files that they write.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from heads.base import BoxTarget, ClassTarget, IdentityTarget, Target
from pipelines.base.records import Category
from pipelines.data.synth.dataset import write_synthetic
from pipelines.model import build_model
from pipelines.run_folder.layout import RunDir
from pipelines.spec.model import ModelSpec
from pipelines.training.balancing import global_losses
from tests.pipelines.run.interruption import differences
from tests.pipelines.training.several_ranks import TerminateSelf, Watch, train
from tests.ranks import run_ranks

Document = dict[str, Any]
Targets = dict[str, list[Target | None]]

UNFREEZE = {0: "none", 1: ["c5"], 2: ["c5", "c4"], 3: "all"}
BOTTOM_UP = {0: "none", 1: ["c3"], 2: ["c3", "c4"], 3: "all"}

BEFORE = [(0, 1), (0, -1)]
AT_AND_AFTER = [(1, -1), (2, 1)]
"""Epoch and batch at which a run is stopped; batch -1 is the last, so the run resumes at a boundary."""

SLOW = [pytest.mark.slow, pytest.mark.timeout(1200)]
FAMILIES = [
    pytest.param(("timm:test_resnet", 2, UNFREEZE, AT_AND_AFTER), id="timm:test_resnet"),
    *(
        pytest.param((name, ranks, UNFREEZE, BEFORE + AT_AND_AFTER), id=f"{name}-{ranks}-ranks", marks=SLOW)
        for name in (
            "timm:test_convnext",
            "timm:resnet10t",
            "timm:efficientnet_lite0",
            "timm:convnext_atto",
            "timm:swin_tiny_patch4_window7_224",
            "timm:regnetx_002",
            "timm:pvt_v2_b0",
        )
        for ranks in (2, 3)
    ),
    pytest.param(("timm:test_efficientnet", 3, BOTTOM_UP, BEFORE + AT_AND_AFTER), id="bottom-up-3-ranks", marks=SLOW),
]
"""Network, number of ranks, `unfreeze`, and the stops. By default a small one with BatchNorm."""

ALL_BUT_A_HEAD = frozenset({"c3", "c4", "c5", "neck", "heads.cells", "heads.looks"})
STEPS: dict[str, tuple[frozenset[str], dict[str, set[int]]]] = {
    "a task is labeled on rank 0 only": (frozenset(), {"kind": {0, 1}}),
    "a stage and a whole head are frozen": (frozenset({"c3", "heads.cells"}), {"kind": {2, 3, 4}}),
    "neck and a stage are frozen": (frozenset({"c3", "neck"}), {"cells": {0, 1}}),
    "only one head trains, labeled on rank 0": (ALL_BUT_A_HEAD, {"kind": {0}}),
    "only one head trains, without labels": (ALL_BUT_A_HEAD, {"kind": set()}),
}
"""By name: the frozen parts, and which of five images are labeled for a task; other tasks label all images."""
IMAGES_OF = {2: ((0, 1), (2, 3, 4)), 3: ((0, 1), (2, 3), (4,))}
"""By number of ranks: the images of each rank, from a joint batch of five."""


class Step(nn.Module):
    """Maps a batch to its total loss, in eval mode, so that images do not depend on each other."""

    def __init__(self, family: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        spec = ModelSpec.model_validate(
            {
                "backbone": {"name": family, "weights": "none"},
                "neck": {"channels": 16, "norm": "bn"},
                "tasks": {
                    "cells": {"head": "fcos", "num_convs": 1, "levels": ["p3", "p4", "p5"]},
                    "kind": {"head": "multiclass"},
                    "looks": {"head": "embedding", "dim": 8},
                },
            }
        )
        self.model = build_model(spec, {task: [Category(k, str(k)) for k in range(3)] for task in spec.tasks})
        self.eval()

    def forward(self, images: Tensor, targets: Targets) -> Tensor:
        losses = global_losses(self.model.loss(images, targets, [(64, 64)] * len(images)))
        return torch.stack(list(losses.tasks.values())).sum()


def joint_batch(labeled: dict[str, set[int]]) -> tuple[Tensor, Targets]:
    random = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8, generator=random)
    targets: Targets = {"cells": [], "kind": [], "looks": []}
    for image in range(5):
        corners = torch.rand(2, 2, generator=random) * 40
        boxes = torch.cat([corners, corners + 16], dim=1)
        none = torch.zeros(2, dtype=torch.bool)
        targets["cells"].append(BoxTarget(boxes, torch.tensor([0, 2]), none, torch.tensor([-1, -1])))
        targets["kind"].append(ClassTarget(torch.tensor(image % 3)))
        targets["looks"].append(IdentityTarget(torch.tensor(image % 2)))
    for task, images_of_task in labeled.items():
        targets[task] = [target if image in images_of_task else None for image, target in enumerate(targets[task])]
    return images, targets


def gradients(step: nn.Module, batch: tuple[Tensor, Targets]) -> dict[str, Tensor | None]:
    step(*batch).backward()
    named = ((name.removeprefix("module."), parameter.grad) for name, parameter in step.named_parameters())
    return {name: None if grad is None else grad.clone() for name, grad in named}


def steps_of_rank(rank: int, num_ranks: int, folder: Path, family: str) -> Document:
    """Return the gradients of each case of STEPS."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/steps", rank=rank, world_size=num_ranks)
    found = {}
    for case, (frozen, labeled) in STEPS.items():
        step = Step(family)
        step.model.freeze(frozen)
        images, targets = joint_batch(labeled)
        own = list(IMAGES_OF[num_ranks][rank])
        batch = images[own], {task: [of[b] for b in own] for task, of in targets.items()}
        found[case] = gradients(DistributedDataParallel(step), batch)
    distributed.destroy_process_group()
    return found


def document_of(small: Document, family: str, num_ranks: int, unfreeze: object) -> Document:
    """Return a job of four epochs with a few batches per rank, and validation only at the end."""
    document = copy.deepcopy(small)
    document["trainer"] |= {"devices": num_ranks, "max_epochs": 4, "check_val_every_n_epoch": 4}
    document["model"] |= {"backbone": {"name": family, "weights": "none"}, "unfreeze": unfreeze, "layer_decay": 0.7}
    document["model"]["lr_scale"] = {"tasks": {"scene": 0.0}}
    document["data"]["image_size"] = 64
    document["data"]["sources"]["shapes"]["batch_size"] = 2
    return document


def run_rank(
    rank: int, num_ranks: int, folder: Path, root: Path, family: str, document: Document, stops: list[tuple[int, int]]
) -> None:
    """Run all scenarios of one rank, and save the outcomes; `stops` are (epoch, batch)."""
    torch.set_num_threads(1)
    watch = Watch()
    outcomes = {"steps": steps_of_rank(rank, num_ranks, folder, family)}
    outcomes["whole"] = train(rank, document, root, folder / "whole", watch)
    outcomes["stopped"] = [train(rank, document, root, folder / "stopped", TerminateSelf(*stop)) for stop in stops]
    outcomes["resumed"] = train(rank, document, root, folder / "stopped")
    torch.save(outcomes | watch.kept(), folder / f"rank{rank}.pt")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "demo"
    write_synthetic(root, num_train=20, num_val=3, num_test=1, image_size=128)
    return root


@pytest.fixture(scope="module", params=FAMILIES)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, small: Document, data_root: Path
) -> Document:
    """Return the outcomes that the ranks of one family saved in `folder`."""
    name, num_ranks, unfreeze, stops = request.param
    folder = tmp_path_factory.mktemp("family")
    document = document_of(small, name, num_ranks, unfreeze)
    run_ranks(run_rank, num_ranks, num_ranks, folder, data_root, name, document, stops)
    ranks = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(num_ranks)]
    return {"name": name, "folder": folder, "unfreeze": unfreeze, "ranks": ranks}


def test_ranks_train_to_the_end_on_different_images(family: Document) -> None:
    assert [rank["whole"] for rank in family["ranks"]] == ["done"] * len(family["ranks"])
    first, *others = (rank["first_images"] for rank in family["ranks"])
    assert all(not torch.equal(first, other) for other in others)


def test_parameters_are_bit_equal_on_all_ranks_after_every_epoch(family: Document) -> None:
    first, *others = family["ranks"]
    assert len(first["states"]) == 5
    for rank in others:
        for one, other in zip(first["states"], rank["states"], strict=True):
            diverged = [name for name in one if "running_" not in name and not torch.equal(one[name], other[name])]
            assert diverged == []


def test_parts_have_gradients_and_change_only_in_the_epochs_in_which_they_train(family: Document) -> None:
    for rank in family["ranks"]:
        parts = rank["parts"]
        for epoch, trained in enumerate(family["unfreeze"].values()):
            stages = {"c3", "c4", "c5"} if trained == "all" else set() if trained == "none" else set(trained)
            expected = {"neck", "heads.identity", "heads.shapes", *stages}
            before, after = rank["states"][epoch : epoch + 2]
            moved = {name for name in before if not torch.equal(before[name], after[name])}
            assert {parts[name] for name in rank["with_gradient"][epoch]} == expected
            assert {parts[name] for name in moved} == expected
            statistics = {name for name in before if "running_" in name}
            assert {parts[name] for name in statistics & moved} == {parts[name] for name in statistics} & expected


def test_ddp_wrapper_is_replaced_and_freed_at_each_boundary(family: Document) -> None:
    assert [rank["wrappers"] for rank in family["ranks"]] == [(4, 1)] * len(family["ranks"])


@pytest.mark.parametrize("case", STEPS)
def test_joint_step_with_partial_labels_has_the_gradients_of_one_process(case: str, family: Document) -> None:
    frozen, labeled = STEPS[case]
    step = Step(family["name"])
    step.model.freeze(frozen)
    expected = gradients(step, joint_batch(labeled))
    trained = {name for name, gradient in expected.items() if gradient is not None}
    assert {step.model.part_of(name.removeprefix("model.")) for name in trained} == {*step.model.parts} - frozen
    for rank in family["ranks"]:
        found = rank["steps"][case]
        assert {name for name, gradient in found.items() if gradient is not None} == trained
        for name in trained:
            limit = 1e-5 * max(1.0, float(expected[name].abs().max()))
            assert float((found[name] - expected[name]).abs().max()) <= limit, name


def test_run_stopped_around_boundaries_and_resumed_is_bit_identical(family: Document) -> None:
    for rank in family["ranks"]:
        assert all(outcome.startswith("Stopped: stopped in epoch") for outcome in rank["stopped"])
        assert rank["resumed"] == "done"
    if len(family["ranks"]) > 2:
        # The order in which gloo adds three gradients depends on DDP's buckets, which are rebuilt after a resume.
        return
    whole, resumed = (
        torch.load(RunDir.of(family["folder"] / run).last_checkpoint, weights_only=True) for run in ("whole", "stopped")
    )
    for content in (whole, resumed):
        del content["callbacks"]["Progress"]  # depends on the time
    assert differences(whole, resumed) == []
