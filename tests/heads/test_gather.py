"""Losses and averaged gradients of embeddings in two gloo processes equal those of one process."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import distributed

from heads.base import IdentityTarget
from tests.heads.building import build_head
from tests.ranks import run_ranks

LOSSES: dict[str, dict[str, str]] = {
    **{loss: {"loss": loss} for loss in ("proxy_anchor", "arcface", "cosface", "supcon", "ntxent")},
    **{f"triplet {miner}": {"loss": "triplet", "miner": miner} for miner in ("all", "hard", "semihard")},
}
SIZE = (64, 96)
IDENTITIES = (0, 1, 0, 2, 1, 2, 3, 0)
CASES = {
    "uneven": (IDENTITIES, (5, 3)),
    "no positive pair on the first": (IDENTITIES, (2, 6)),
    "no images with an identity": (IDENTITIES, (8, 0)),
    "idle": (IDENTITIES, (8, None)),
    "idle first": (IDENTITIES, (None, 8)),
    "one identity": ((1, 1, 1, 1), (3, 1)),
    "all different": ((0, 1, 2, 3), (1, 3)),
}
"""Identities of the joint batch, and number of rows by rank; None: without a labeled image, calls `idle_loss`."""


@dataclass(frozen=True)
class Level:
    channels: int
    stride: float = 32.0
    offset_px: float = 0.0


def make_head(loss):
    torch.manual_seed(0)
    return build_head("embedding", level_specs={"c5": Level(6)}, num_classes=4, dim=8, **LOSSES[loss])


def make_maps():
    return torch.randn(8, 6, 2, 3, generator=torch.Generator().manual_seed(1))


def make_targets(identities):
    return [IdentityTarget(torch.tensor(identity)) for identity in identities]


def rank_gradients(loss, case, rank):
    """Return loss and gradients as the training module and DDP compute them from this rank's rows."""
    head = make_head(loss)
    identities, split = CASES[case]
    rows = split[rank]
    if rows is None:
        ((total, count),) = head.idle_loss().values()
    elif rows == 0:
        ((total, count),) = head.loss(head({"c5": make_maps()[:1]}), make_targets([-1]), [SIZE]).values()
    else:
        start = sum(before or 0 for before in split[:rank])
        own = slice(start, start + rows)
        ((total, count),) = head.loss(
            head({"c5": make_maps()[own]}), make_targets(identities[own]), [SIZE] * rows
        ).values()
    sums = torch.stack((total.detach(), count))
    distributed.all_reduce(sums)
    world = distributed.get_world_size()
    (total * world / sums[1].clamp(min=1)).backward()
    gradients = {}
    for name, parameter in head.named_parameters():
        distributed.all_reduce(parameter.grad)
        gradients[name] = parameter.grad / world
    return {"loss": sums[0] / sums[1].clamp(min=1), "gradients": gradients}


def run_rank(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    results = {(case, loss): rank_gradients(loss, case, rank) for case in CASES for loss in LOSSES}
    torch.save(results, Path(folder) / f"rank{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Results of both ranks by case and loss."""
    folder = tmp_path_factory.mktemp("gather")
    run_ranks(run_rank, 2, str(folder))
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_ranks_give_the_loss_and_gradient_of_the_joint_batch(ranks, case, loss):
    identities, _ = CASES[case]
    head = make_head(loss)
    raw = head({"c5": make_maps()[: len(identities)]})
    ((total, count),) = head.loss(raw, make_targets(identities), [SIZE] * len(identities)).values()
    total.backward()
    expected = {name: parameter.grad for name, parameter in head.named_parameters()}
    has_pairs = identities == IDENTITIES
    is_used = has_pairs or loss in ("proxy_anchor", "arcface", "cosface")
    assert float(count) == is_used
    assert all((gradient.abs().sum() > 0) == is_used for gradient in expected.values())
    for rank in ranks:
        torch.testing.assert_close(rank[case, loss]["loss"], total.detach())
        # The scale of 64 of ArcFace and CosFace leaves 6e-6 of rounding between the two orders of summation.
        torch.testing.assert_close(rank[case, loss]["gradients"], expected, rtol=1e-5, atol=1e-5)
