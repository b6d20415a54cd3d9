"""A run that unfreezes stages, is stopped and resumed equals the uninterrupted run, bit by bit."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import Stopped
from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import RunDir
from tests.pipelines.run.interruption import TerminateSelf, differences, state_of

Document = dict[str, Any]
Train = Callable[..., RunDir]

UNFREEZE = {0: "none", 1: ["c5"], 2: ["c5", "c4"], 3: "all"}
"""The run has four epochs, each with five batches in three optimizer steps."""


def unfreezing(small: Document, num_workers: int = 0) -> Document:
    """Return a job with averaged weights, accumulation, clipping, and a warm-up that ends after the first boundary."""
    document = copy.deepcopy(small)
    document["trainer"] |= {"max_epochs": 4, "gradient_clip_val": 0.5}
    document["model"] |= {
        "backbone": {"name": "timm:test_resnet", "weights": "none"},
        "layer_decay": 0.7,
        "unfreeze": UNFREEZE,
        "schedule": {"warmup_steps": 5, "decay": "cosine"},
    }
    document["data"] |= {"image_size": 64, "num_workers": num_workers}
    return document


@pytest.fixture(scope="module")
def uninterrupted(small: Document, train: Train, tmp_path_factory: pytest.TempPathFactory) -> Document:
    return state_of(train(unfreezing(small), tmp_path_factory.mktemp("uninterrupted")))


def stopped_and_resumed(train: Train, document: Document, path: Path, *places: tuple[str, int, int]) -> Document:
    """Return the state of a run that was stopped at each place in turn."""
    for hook, epoch, batch in places:
        with pytest.raises(Stopped, match=f"stopped in epoch {epoch + 1} of "):
            train(document, path, TerminateSelf(hook, epoch, batch))
    return state_of(train(document, path))


def test_run_stopped_at_boundaries_and_inside_epochs_and_resumed_is_bit_identical(
    small: Document, train: Train, uninterrupted: Document, tmp_path: Path
) -> None:
    """It stops at the end of an epoch, in the validation before a boundary, and inside the epochs around them."""
    places = [("train_batch", 0, 4), ("train_batch", 1, 2), ("validation_batch", 1, 0), ("train_batch", 3, 0)]
    resumed = stopped_and_resumed(train, unfreezing(small), tmp_path, *places)
    assert differences(uninterrupted, resumed) == []
    unfrozen = [event for event in read_events(tmp_path / "events.jsonl") if "trains" in event.data]
    assert [event.epoch for event in unfrozen] == [1, 2, 3]


def test_every_parameter_was_trained_at_the_end(uninterrupted: Document) -> None:
    """Otherwise the comparison would include weights that never change."""
    state = uninterrupted["last"]["optimizer_states"][0]["state"]
    names = sum(len(group["params"]) for group in uninterrupted["last"]["optimizer_states"][0]["param_groups"])
    assert len(state) == names
    assert sorted({int(entry["step"]) for entry in state.values()}) == [3, 6, 9, 12]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("epoch", range(4))
@pytest.mark.parametrize(("hook", "batch"), [("train_batch", b) for b in (0, 2, 4)] + [("validation_batch", 0)])
def test_run_stopped_anywhere_and_resumed_is_bit_identical(
    hook: str,
    epoch: int,
    batch: int,
    num_workers: int,
    small: Document,
    train: Train,
    uninterrupted: Document,
    tmp_path: Path,
) -> None:
    if (epoch, batch) == (3, 4):
        pytest.skip("the run is complete")
    resumed = stopped_and_resumed(train, unfreezing(small, num_workers), tmp_path, (hook, epoch, batch))
    assert differences(uninterrupted, resumed) == []
