"""A run that was stopped and resumed equals the uninterrupted run, bit by bit."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.base.errors import Stopped
from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import RunDir
from pipelines.training.checkpoints import Checkpoints
from tests.pipelines.run.interruption import TerminateSelf, differences, state_of

Document = dict[str, Any]
Train = Callable[..., RunDir]


class CrashWithCheckpointsAtEachStep(Callback):
    """Fails at a batch of training or validation; regular checkpoints are written at every step, not every five
    minutes."""

    def __init__(self, hook: str, epoch: int, batch: int) -> None:
        self.place = (hook, epoch, batch)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        next(callback for callback in trainer.callbacks if isinstance(callback, Checkpoints)).every_s = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if ("train_batch", trainer.current_epoch, batch_idx) == self.place:
            raise MemoryError

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if ("validation_batch", trainer.current_epoch, batch_idx) == self.place:
            raise MemoryError


@pytest.fixture(scope="module")
def uninterrupted(small: Document, train: Train, tmp_path_factory: pytest.TempPathFactory) -> Document:
    return state_of(train(small, tmp_path_factory.mktemp("uninterrupted")))


@pytest.mark.parametrize(
    ("hook", "epoch", "batch", "stopped_at_step"),
    [
        pytest.param("train_batch", 0, 0, 1, id="in_the_first_window", marks=pytest.mark.slow),
        pytest.param("train_batch", 1, 2, 5, id="inside_an_epoch"),
        pytest.param("train_batch", 0, 4, 3, id="at_the_last_batch_of_an_epoch", marks=pytest.mark.slow),
        pytest.param("validation_batch", 0, 1, 3, id="in_validation"),
        pytest.param("validation_batch", 1, 0, 6, id="in_the_last_validation"),
        pytest.param("validation_end", 0, 0, 3, id="after_the_last_batch_of_validation"),
    ],
)
def test_stopped_and_resumed_run_is_bit_identical(
    hook: str,
    epoch: int,
    batch: int,
    stopped_at_step: int,
    small: Document,
    train: Train,
    uninterrupted: Document,
    tmp_path: Path,
) -> None:
    with pytest.raises(Stopped, match=f"in epoch {epoch + 1} of .*, after step {stopped_at_step}"):
        train(small, tmp_path, TerminateSelf(hook, epoch, batch))
    validated = [event.epoch for event in read_events(tmp_path / "events.jsonl") if event.kind == "metric"]
    assert validated == list(range(epoch))
    resumed = state_of(train(small, tmp_path))
    assert differences(uninterrupted, resumed) == []


def test_resumed_run_with_prefetching_workers_is_bit_identical(
    small_document: Document, train: Train, uninterrupted: Document, tmp_path: Path
) -> None:
    small_document["data"]["num_workers"] = 2
    with pytest.raises(Stopped, match="step 4"):
        train(small_document, tmp_path, TerminateSelf("train_batch", 1, 0))
    resumed = state_of(train(small_document, tmp_path))
    assert differences(uninterrupted, resumed) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_resumed_run_with_compiled_layers_is_bit_identical(
    small_document: Document, train: Train, tmp_path: Path
) -> None:
    small_document["trainer"]["compile"] = True
    small_document["model"] |= {"tasks": {"scene": {"head": "multilabel"}}, "unfreeze": {0: ["c5"], 1: "all"}}
    del small_document["data"]["sources"]["shapes"]["labels"][0]
    whole = state_of(train(small_document, tmp_path / "whole"))
    torch.compiler.reset()
    with pytest.raises(Stopped, match="step 5"):
        train(small_document, tmp_path / "stopped", TerminateSelf("train_batch", 1, 2))
    torch.compiler.reset()
    assert differences(whole, state_of(train(small_document, tmp_path / "stopped"))) == []


@pytest.mark.parametrize(
    ("hook", "epoch", "batch", "at"),
    [
        pytest.param("train_batch", 1, 3, (1, 4), id="in_training"),
        pytest.param("validation_batch", 0, 1, (0, 3), id="in_validation", marks=pytest.mark.slow),
    ],
)
def test_crashed_run_resumed_from_its_last_regular_checkpoint_is_bit_identical(
    hook: str,
    epoch: int,
    batch: int,
    at: tuple[int, int],
    small: Document,
    train: Train,
    uninterrupted: Document,
    tmp_path: Path,
) -> None:
    with pytest.raises(MemoryError):
        train(small, tmp_path, CrashWithCheckpointsAtEachStep(hook, epoch, batch))
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == at
    resumed = state_of(train(small, tmp_path))
    assert differences(uninterrupted, resumed) == []


@pytest.mark.parametrize("tasks", [{"balance": "uncertainty"}, {"aggregate": "pcgrad"}], ids=lambda field: str(*field))
def test_resumed_run_with_random_samples_and_learned_balance_or_random_gradient_order_is_bit_identical(
    tasks: Document, small_document: Document, train: Train, tmp_path: Path
) -> None:
    small_document["trainer"]["max_epochs"] = 1
    small_document["model"] |= {**tasks, "gradients_every_n_steps": 1}
    samples = {"anchor_samples": 24, "roi_samples": 8}
    small_document["model"]["tasks"]["shapes"] = {"head": "faster_rcnn", "roi_channels": 16, **samples}
    uninterrupted = state_of(train(small_document, tmp_path / "uninterrupted"))
    with pytest.raises(Stopped, match="in epoch 1 of 1, after step 2"):
        train(small_document, tmp_path / "stopped", TerminateSelf("train_batch", 0, 2))
    resumed = state_of(train(small_document, tmp_path / "stopped"))
    assert differences(uninterrupted, resumed) == []


def test_resumed_run_with_combined_images_and_several_sizes_is_bit_identical(
    small_document: Document, train: Train, tmp_path: Path
) -> None:
    small_document["data"] |= {
        "augment": [{"op": op, "p": 0.7} for op in ("mosaic", "mixup", "copy_paste", "hflip")],
        "multi_scale": [64, 128],
        "close_mosaic_epochs": 1,
    }
    (source,) = small_document["data"]["sources"].values()
    source["sampler"] = {"kind": "shuffle", "group_by_aspect": True}
    uninterrupted = state_of(train(small_document, tmp_path / "uninterrupted"))
    with pytest.raises(Stopped, match="in epoch 1 of 2, after step 2"):
        train(small_document, tmp_path / "stopped", TerminateSelf("train_batch", 0, 2))
    resumed = state_of(train(small_document, tmp_path / "stopped"))
    assert differences(uninterrupted, resumed) == []


def test_finished_training_does_not_resume(
    small: Document, train: Train, uninterrupted: Document, tmp_path: Path
) -> None:
    train(small, tmp_path)
    before = state_of(RunDir.of(tmp_path))
    assert differences(uninterrupted, before) == []
    assert differences(before, state_of(train(small, tmp_path))) == []


@pytest.mark.slow
def test_resumed_run_stops_early_at_the_same_validation(small_document: Document, train: Train, tmp_path: Path) -> None:
    # No gain is large enough, so the first validation stays the best, and the third is the second without a gain.
    small_document["trainer"] |= {"max_epochs": 6, "early_stopping": {"patience": 2, "min_delta": 1.0}}
    whole = state_of(train(small_document, tmp_path / "whole"))
    assert whole["last"]["epoch"] == 2
    assert whole["last"]["callbacks"]["EarlyStopping"]["is_over"]
    with pytest.raises(Stopped, match="after step 6"):
        train(small_document, tmp_path / "stopped", TerminateSelf("validation_batch", 1))
    assert differences(whole, state_of(train(small_document, tmp_path / "stopped"))) == []
    assert differences(whole, state_of(train(small_document, tmp_path / "stopped"))) == []
