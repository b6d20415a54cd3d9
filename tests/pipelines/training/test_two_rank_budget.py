"""Two processes whose clocks differ end training after the same epoch, with the same weights."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import BudgetUse, Costs, RunMeasurement
from tests.pipelines.training.several_ranks import Watch, train
from tests.ranks import run_ranks

Document = dict[str, Any]


class CountedSeconds(Callback):
    """A clock on which a training batch takes `batch_s`, and everything else no time."""

    def __init__(self, batch_s: float) -> None:
        self.batch_s = batch_s
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def on_before_zero_grad(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.seconds += self.batch_s


def run_rank(rank: int, folder: Path, root: Path, document: Document) -> None:
    """Train with a budget that is too short for the planned epochs by the clock of rank 0 only, and save the state."""
    torch.set_num_threads(1)
    watch, clock = Watch(), CountedSeconds(10.0 if rank == 0 else 1e-3)
    outcome = train(rank, document, root, folder / "run", watch, clock, clock=clock)
    torch.save({"outcome": outcome, "states": watch.states}, folder / f"rank{rank}.pt")
    os.environ.pop("LOCAL_RANK", None)


@pytest.mark.integration
def test_all_ranks_follow_the_clock_of_the_first(small: Document, demo_root: Path, tmp_path: Path) -> None:
    document = copy.deepcopy(small)
    document["trainer"] |= {"devices": 2, "budget": "100s", "max_epochs": 5, "accumulate_grad_batches": 1}
    document["model"] |= {
        "backbone": {"name": "timm:test_resnet", "weights": "none"},
        "tasks": {"scene": {"head": "multilabel"}},
    }
    del document["data"]["sources"]["shapes"]["labels"][0]
    document["data"] |= {"image_size": 32}
    run_dir = RunDir.of(tmp_path / "run")
    run_dir.path.mkdir()
    RunMeasurement(costs=Costs(step_s={"": 5.0}, validation_s=1.0, final_s=1.0)).write(run_dir.measured)
    run_ranks(run_rank, 2, tmp_path, demo_root, document)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert [rank["outcome"] for rank in ranks] == ["done", "done"]
    # 2 batches of 10 s per epoch, each rank with half of the labeled images; 4 epochs fit 100 s.
    assert [len(rank["states"]) for rank in ranks] == [5, 5]
    for one, other in zip(*(rank["states"] for rank in ranks), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one if "running_" not in name)
    assert BudgetUse.read(run_dir.budget).used_s == 80
