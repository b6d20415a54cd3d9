"""Interrupting a run, and comparing all of its state bit by bit."""

import os
import signal
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import RunDir

Document = dict[str, Any]


class TerminateSelf(Callback):
    """Sends SIGTERM to this process, once, at a hook of one epoch and batch."""

    def __init__(self, hook: str, epoch: int, batch: int = 0) -> None:
        self.hook, self.epoch, self.batch, self.is_done = hook, epoch, batch, False

    def _maybe(self, hook: str, trainer: Trainer, batch: int) -> None:
        if (hook, trainer.current_epoch, batch) == (self.hook, self.epoch, self.batch) and not self.is_done:
            self.is_done = True
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._maybe("train_batch", trainer, batch_idx)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._maybe("validation_batch", trainer, batch_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._maybe("validation_end", trainer, 0)


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return the paths at which two nested values differ, even by a single bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        return [line for key in one for line in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple):
        assert len(one) == len(other), path
        return [
            line for i, pair in enumerate(zip(one, other, strict=True)) for line in differences(*pair, f"{path}/{i}")
        ]
    return [] if one == other else [f"{path}: {one} {other}"]


def state_of(run_dir: RunDir) -> Document:
    """Return everything that a run results in, except its duration."""
    last = torch.load(run_dir.last_checkpoint, weights_only=True)
    del last["callbacks"]["Progress"]
    best = torch.load(run_dir.best_checkpoint, weights_only=True)
    events = read_events(run_dir.events)
    metrics = {(e.epoch, e.step): e.data for e in events if e.kind == "metric"}
    losses = {(e.epoch, e.step): e.data["losses"] for e in events if e.kind == "progress"}
    return {"last": last, "best": best, "metrics": metrics, "losses": losses}
