"""Two ranks that unfreeze stages, are stopped anywhere and resumed are bit-identical to the uninterrupted run."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.run_folder.layout import RunDir
from tests.pipelines.run.interruption import differences
from tests.pipelines.training.several_ranks import TerminateSelf, train
from tests.ranks import run_ranks

Document = dict[str, Any]

PLACES = [(epoch, batch) for epoch in range(4) for batch in (0, 2, -1)][:-1]
"""Epoch and batch of a stop request, which takes effect at the next optimizer step: each rank has five batches, and a
step has two. -1 is the last batch, after which the next epoch trains another stage."""

CASES = [(0, place) for place in PLACES] + [(2, place) for place in [(0, 2), (1, -1), (2, 0)]]
"""Number of data workers, and one of `PLACES`."""


def document_of(small: Document, num_workers: int) -> Document:
    """Return a job with averaged weights, accumulation, clipping, and a warm-up that ends after the first boundary."""
    document = copy.deepcopy(small)
    document["trainer"] |= {"devices": 2, "max_epochs": 4, "check_val_every_n_epoch": 2, "gradient_clip_val": 0.5}
    document["model"] |= {
        "backbone": {"name": "timm:test_resnet", "weights": "none"},
        "layer_decay": 0.7,
        "unfreeze": {0: "none", 1: ["c5"], 2: ["c5", "c4"], 3: "all"},
        "schedule": {"warmup_steps": 5, "decay": "cosine"},
    }
    document["data"] |= {"image_size": 64, "num_workers": num_workers}
    document["data"]["sources"]["shapes"]["batch_size"] = 2
    return document


def run_rank(rank: int, num_ranks: int, folder: Path, root: Path, small: Document) -> None:
    """Train the whole run and every interrupted run of one rank, and save the outcomes."""
    torch.set_num_threads(1)
    outcomes = {"whole": [train(rank, document_of(small, 0), root, folder / "whole")]}
    for number, (num_workers, place) in enumerate(CASES):
        document, path = document_of(small, num_workers), folder / str(number)
        outcomes[str(number)] = [
            train(rank, document, root, path, TerminateSelf(*place, rank=1)),
            train(rank, document, root, path),
        ]
    torch.save(outcomes, folder / f"rank{rank}.pt")


@pytest.fixture(scope="module")
def folder(small: Document, demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which two ranks were stopped at each place, and resumed."""
    path = tmp_path_factory.mktemp("resumed")
    run_ranks(run_rank, 2, 2, path, demo_root, small)
    return path


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "{}-workers-epoch-{}-batch-{}".format(case[0], *case[1]))
def test_run_of_two_ranks_stopped_anywhere_and_resumed_is_bit_identical(
    case: tuple[int, tuple[int, int]], folder: Path
) -> None:
    name, (_, place) = str(CASES.index(case)), case
    for rank in range(2):
        outcomes = torch.load(folder / f"rank{rank}.pt", weights_only=True)
        stopped, resumed = outcomes[name]
        assert stopped.startswith(f"Stopped: stopped in epoch {place[0] + 1} of 4, ")
        assert (outcomes["whole"], resumed) == (["done"], "done")
    whole, resumed = (torch.load(RunDir.of(folder / run).last_checkpoint, weights_only=True) for run in ("whole", name))
    for content in (whole, resumed):
        del content["callbacks"]["Progress"]  # depends on the time
    assert differences(whole, resumed) == []
