"""A run ends within its budget; the seconds come from a clock that counts batches, so no result depends on speed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.base.errors import Stopped
from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import BudgetUse, Costs, RunMeasurement
from pipelines.training.budget import UsedTime
from tests.pipelines.run.interruption import TerminateSelf, differences, state_of

Document = dict[str, Any]
Train = Callable[..., RunDir]


class CountedSeconds(Callback):
    """A clock on which a training batch takes `batch_s`, a validation 5 s, and everything else no time."""

    def __init__(self, batch_s: float) -> None:
        self.batch_s = batch_s
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.seconds += self.batch_s

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.seconds += 5.0 if batch_idx == dataloader_idx == 0 else 0.0


@pytest.fixture
def document(small_document: Document) -> Document:
    """A document of which 4 epochs were planned: 5 batches of 2 s and a validation of 5 s each, and 10 s at the end."""
    small_document["trainer"] |= {"budget": "70s", "max_epochs": 4}
    small_document["model"] |= {
        "backbone": {"name": "timm:test_resnet", "weights": "none"},
        "tasks": {"scene": {"head": "multilabel", "dropout": 0.5}},
        "schedule": {"warmup_steps": 1, "final_ratio": 0.1},
    }
    del small_document["data"]["sources"]["shapes"]["labels"][0]
    small_document["data"] |= {
        "image_size": 32, "augment": [{"op": "mosaic", "p": 0.5}], "close_mosaic_epochs": 1,
    }  # fmt: skip
    return small_document


@pytest.fixture
def planned(document: Document, train: Train) -> Callable[..., Document]:
    """Train the document in a folder with a clock, and return the state of the run without the used time."""

    def run(path: Path, batch_s: float, *more: Callback) -> Document:
        costs = Costs(step_s={"": 2.0}, validation_s=5.0, final_s=10.0)
        RunMeasurement(costs=costs).write(RunDir.of(path).measured)
        clock = CountedSeconds(batch_s)
        state = state_of(train(document, path, clock, *more, clock=clock))
        state["used_s"] = state["last"]["callbacks"]["Budget"].pop("used_s")
        return state

    return run


def rates_of(run_dir: Path) -> list[float]:
    return [event.data["lr"] for event in read_events(run_dir / "events.jsonl") if event.kind == "progress"]


def stages_of(run_dir: Path) -> list[str]:
    return [str(event.data["message"]) for event in read_events(run_dir / "events.jsonl") if event.kind == "stage"]


def test_run_as_fast_as_planned_keeps_its_length(planned: Callable[..., Document], tmp_path: Path) -> None:
    state = planned(tmp_path, 2.0)
    assert (state["last"]["epoch"], state["used_s"]) == (3, 60)
    assert rates_of(tmp_path)[-1] == pytest.approx(2e-3 * 0.1)
    assert stages_of(tmp_path) == []


def test_slow_run_has_fewer_epochs_decays_fully_and_resumes_bit_identically(
    planned: Callable[..., Document], tmp_path: Path
) -> None:
    # After an epoch, 20 of 70 s are used: 50 s are left for epochs of 20 s and the 10 s at the end.
    whole = planned(tmp_path / "whole", 3.0)
    assert (whole["last"]["epoch"], whole["used_s"]) == (2, 60)
    rates = rates_of(tmp_path / "whole")
    assert rates == [rates[0], *sorted(rates[1:], reverse=True)]
    assert rates[-1] == pytest.approx(2e-3 * 0.1)
    assert stages_of(tmp_path / "whole") == [
        "0:00:20 of 0:01:10 are used after epoch 1: training ends after epoch 3 instead of 4"
    ]
    with pytest.raises(Stopped, match="in epoch 2 of 3, after step 5"):
        planned(tmp_path / "stopped", 3.0, TerminateSelf("train_batch", 1, 2))
    resumed = planned(tmp_path / "stopped", 3.0)
    assert differences(whole, resumed) == []
    again = planned(tmp_path / "stopped", 3.0)
    assert differences(whole["last"], again["last"]) == []


def test_run_that_is_much_too_slow_decays_in_one_more_epoch(planned: Callable[..., Document], tmp_path: Path) -> None:
    state = planned(tmp_path, 50.0)
    assert state["last"]["epoch"] == 1
    assert rates_of(tmp_path)[-1] == pytest.approx(2e-3 * 0.1)


def test_fast_run_has_more_epochs_of_which_the_last_one_combines_no_images(
    planned: Callable[..., Document], tmp_path: Path
) -> None:
    class Combining(Callback):
        def __init__(self) -> None:
            self.num_epochs: list[int] = []

        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
        ) -> None:
            self.num_epochs.append(trainer.train_dataloader.batch_sampler.num_combining_epochs)

    combining = Combining()
    # After an epoch, 10 s are used: 60 s are left for epochs of 10 s and the 10 s at the end.
    state = planned(tmp_path, 1.0, combining)
    assert (state["last"]["epoch"], state["used_s"]) == (5, 60)
    assert rates_of(tmp_path)[-1] == pytest.approx(2e-3 * 0.1)
    assert set(combining.num_epochs[:5]) == {3}
    assert set(combining.num_epochs[5:]) == {5}


def test_time_of_a_killed_attempt_is_used(tmp_path: Path) -> None:
    run_dir, seconds = RunDir.of(tmp_path), [0.0]

    def attempt() -> UsedTime:
        seconds[0] = 0.0
        return UsedTime(run_dir, lambda: seconds[0])

    used = attempt()
    for now in (1.0, 5.0, 9.0, 12.0):
        seconds[0] = now
        used.save()
    assert BudgetUse.read(run_dir.budget).used_s == 12
    assert attempt().seconds() == 0, "without a checkpoint the run starts again"
    run_dir.last_checkpoint.parent.mkdir()
    run_dir.last_checkpoint.touch()
    used = attempt()
    seconds[0] = 3.0
    assert used.seconds() == 15
    used.restore(10.0)
    assert used.seconds() == 15
    used.restore(20.0)
    assert used.seconds() == 23
    used.save(is_due=True)
    assert BudgetUse.read(run_dir.budget).used_s == 23
    assert math.isfinite(attempt().seconds())
