"""Losses and gradients of detectors with every normalizer are the same on one, two and three ranks.

Three processes are spawned once and run all cases; the tests check the files that they write.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from heads.base import BoxTarget, Head
from heads.detection_spec import LossNormalizer
from heads.spec import head_spec
from pipelines.training.balancing import global_losses
from tests.heads.building import build_head
from tests.heads.conftest import SIZE_HW, SPECS
from tests.ranks import run_ranks

Report = dict[str, Any]
Targets = list[BoxTarget | None]

HEADS: dict[str, dict[str, Any]] = {
    "retinanet": {"num_convs": 1, "scales_per_octave": 1},
    "fcos": {"num_convs": 1},
    "faster_rcnn": {"roi_channels": 16, "anchor_samples": 1000, "roi_samples": 1000},
}
NORMALIZERS: tuple[LossNormalizer, ...] = ("global", "per_image", "ema")
CASES = [(head, normalizer) for head in HEADS for normalizer in NORMALIZERS]
IMAGES_OF = {1: ((0, 1, 2, 3, 4, 5),), 2: ((0, 1, 2, 3), (4, 5)), 3: ((0, 1), (2, 3, 4), (5,))}
"""By number of ranks, the images of each rank."""
UNLABELED: dict[str, set[int]] = {
    "all labeled": set(),
    "none on one rank": {4, 5},
    "none on another rank": {0, 1, 2, 3},
    "none": {0, 1, 2, 3, 4, 5},
    "all labeled again": {1},
}
"""The batches of a window of accumulated gradients, with the images that are not labeled; image 2 has no objects."""


def features_of(images: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    shapes = {
        level: (6, spec.channels, *(-(-side // int(spec.stride)) for side in SIZE_HW)) for level, spec in SPECS.items()
    }
    return {level: torch.randn(shape, generator=random)[list(images)] for level, shape in shapes.items()}


def targets_of(images: tuple[int, ...], seed: int, unlabeled: set[int]) -> Targets:
    random = torch.Generator().manual_seed(seed)
    targets: Targets = []
    for image in range(6):
        corners = torch.rand(3, 2, generator=random) * 40
        boxes = torch.cat([corners, corners + 8 + 40 * torch.rand(3, 2, generator=random)], dim=1)
        labels = torch.randint(0, 3, (3,), generator=random)
        number = 0 if image == 2 else 1 + image % 3
        target = BoxTarget(boxes[:number], labels[:number], torch.zeros(number, dtype=torch.bool), labels[:number])
        targets.append(None if image in unlabeled else target)
    return [targets[image] for image in images]


def loss_of(head: Head, images: tuple[int, ...], seed: int, unlabeled: set[int]) -> Any:
    targets = targets_of(images, seed, unlabeled)
    labeled = [b for b, target in enumerate(targets) if target is not None]
    if not labeled:
        return head.idle_loss()
    features = {level: maps[labeled] for level, maps in features_of(images, seed).items()}
    return head.loss(head(features), [targets[b] for b in labeled], [SIZE_HW] * len(labeled))


def results(images: tuple[int, ...], num_ranks: int) -> dict[str, Report]:
    """Return terms, averages and gradients of a window of batches, as on one rank of a training."""
    found: dict[str, Report] = {}
    for name, normalizer in CASES:
        torch.manual_seed(0)
        head = build_head(name, level_specs=SPECS, num_classes=3, normalizer=normalizer, **HEADS[name])
        terms = []
        for seed, unlabeled in enumerate(UNLABELED.values()):
            losses = global_losses({"cells": loss_of(head, images, seed, unlabeled)})
            terms.append(losses.terms)
            (losses.tasks["cells"] / num_ranks / len(UNLABELED)).backward()
        gradients = {}
        for key, parameter in head.named_parameters():
            assert parameter.grad is not None
            if num_ranks > 1:
                distributed.all_reduce(parameter.grad)
            gradients[key] = parameter.grad
        averages = head.state_dict().get("normalizer.mean_counts", torch.zeros(0))
        found[f"{name} {normalizer}"] = {"terms": terms, "gradients": gradients, "averages": averages}
    return found


def run_rank(rank: int, folder: Path) -> None:
    """Run all cases with three and with two ranks, and save the results."""
    torch.set_num_threads(1)
    for num_ranks in (3, 2):
        if rank < num_ranks:
            meeting = f"file://{folder}/meeting{num_ranks}"
            distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=num_ranks)
            torch.save(results(IMAGES_OF[num_ranks][rank], num_ranks), folder / f"rank{rank}of{num_ranks}.pt")
            distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Report]]]:
    """Return the results of each rank, by the number of ranks."""
    folder = tmp_path_factory.mktemp("normalizers")
    run_ranks(run_rank, 3, folder)
    return {
        number: [torch.load(folder / f"rank{rank}of{number}.pt", weights_only=True) for rank in range(number)]
        for number in (2, 3)
    }


@pytest.fixture(scope="module")
def expected() -> dict[str, Report]:
    """Return the results of one process."""
    return results(IMAGES_OF[1][0], 1)


def test_cases_cover_every_normalizer() -> None:
    assert {head_spec("fcos", normalizer=name).model_dump()["normalizer"] for name in NORMALIZERS} == set(NORMALIZERS)


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize(("head", "normalizer"), CASES)
def test_window_of_batches_on_several_ranks_equals_that_of_one_process(
    head: str,
    normalizer: str,
    number: int,
    ranks: dict[int, list[dict[str, Report]]],
    expected: dict[str, Report],
) -> None:
    case = f"{head} {normalizer}"
    for found in ranks[number]:
        torch.testing.assert_close(found[case]["terms"], expected[case]["terms"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[case]["gradients"], expected[case]["gradients"], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found[case]["averages"], expected[case]["averages"])
        assert torch.equal(found[case]["averages"], ranks[number][0][case]["averages"])


@pytest.mark.parametrize("head", HEADS)
def test_normalizers_differ_on_these_batches(head: str, expected: dict[str, Report]) -> None:
    """Otherwise the comparison above would not distinguish them."""
    last = [float(sum(expected[f"{head} {name}"]["terms"][-1].values())) for name in NORMALIZERS]
    assert len({round(value, 4) for value in last}) == 3
    nothing = list(UNLABELED).index("none")
    assert all(float(sum(expected[f"{head} {name}"]["terms"][nothing].values())) == 0 for name in NORMALIZERS)
