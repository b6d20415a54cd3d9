"""What goes on around training: averaged weights, checkpoints, a stop on request."""

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from pipelines.errors import Stopped
from pipelines.run_folder.layout import RunDir
from pipelines.training.ranks import local_rank
from pipelines.training.strategy import any_rank, is_distributed


class EMA(WeightAveraging):
    """Keeps an exponential moving average of parameters and buffers; validation and checkpoints use it.

    After t optimiser steps the decay is min(decay, (1 + t) / (10 + t)).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=True, avg_fn=self._average)
        self.decay = decay

    def _average(self, averaged: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():
            return current
        steps = int(num_averaged)
        return averaged.lerp(current, 1 - min(self.decay, (1 + steps) / (10 + steps)))

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averaged module's state dict."""
        assert isinstance(self._average_model, AveragedModel)
        return dict(self._average_model.module.state_dict())


class StopRequest:
    """Remembers that SIGTERM or SIGINT arrived. A second SIGINT ends the process at once."""

    def __init__(self) -> None:
        self.is_set = False

    def install(self) -> None:
        """Take both signals."""
        signal.signal(signal.SIGTERM, self._remember)
        signal.signal(signal.SIGINT, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_set = True

    def check(self, where: str) -> None:
        """Raise Stopped where a stop was asked for: on all ranks, if of any (all must call this).

        A rank that has not met rank 0 yet goes on, and is stopped with the others.
        """
        if any_rank(self.is_set) if is_distributed() else self.is_set and local_rank() == 0:
            raise Stopped(f"stopped {where}; run the same command again to go on")


def write_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write the trainer's whole state; a reader sees the old file or the new one. All ranks must call this."""
    temporary = path.with_suffix(".writing")
    trainer.save_checkpoint(temporary)
    if trainer.is_global_zero:
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


class Checkpoints(Callback):
    """Writes last.ckpt at each epoch's end, at an optimiser step at least every `every_s` seconds, and when a stop was
    asked for (which then raises Stopped, on every rank at the same step)."""

    def __init__(self, run_dir: RunDir, stop: StopRequest, every_s: float = 300.0) -> None:
        self.path = run_dir.last_checkpoint
        self.stop = stop
        self.every_s = every_s
        self._written_at = time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._written_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_boundary = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        is_last = batch_idx + 1 == trainer.num_training_batches
        if not is_boundary or is_last:
            return
        wants_stop, is_due = self._agree(trainer)
        if wants_stop or is_due:
            self._write(trainer)
        if wants_stop:
            raise Stopped(self._told(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        wants_stop, _ = self._agree(trainer)
        self._write(trainer)
        if wants_stop and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            raise Stopped(self._told(trainer))

    def _told(self, trainer: Trainer) -> str:
        return (
            f"stopped at epoch {trainer.current_epoch}, step {trainer.global_step}, with a checkpoint written; "
            "run the same command again to go on"
        )

    def _agree(self, trainer: Trainer) -> tuple[bool, bool]:
        """Return (stop, checkpoint is due), the same on every rank."""
        is_due = time.monotonic() - self._written_at >= self.every_s
        if trainer.world_size == 1:
            return self.stop.is_set, is_due
        flags = torch.tensor([self.stop.is_set, is_due], dtype=torch.int32, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
        return bool(flags[0]), bool(flags[1])

    def _write(self, trainer: Trainer) -> None:
        write_checkpoint(trainer, self.path)
        self._written_at = time.monotonic()
