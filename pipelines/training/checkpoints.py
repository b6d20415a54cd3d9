"""Checkpoints for resuming, and stops on request."""

import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from pipelines.base.errors import Stopped
from pipelines.run_folder.files import rename_synced
from pipelines.run_folder.layout import UNFINISHED_SUFFIX, RunDir
from pipelines.training.lightning_internals import restart_validation
from pipelines.training.stopping import StopRequest


def write_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write the trainer's state, so that readers see the old file or the new one; all ranks must call this."""
    temporary = path.with_suffix(UNFINISHED_SUFFIX)
    trainer.save_checkpoint(temporary)
    if trainer.is_global_zero:
        rename_synced(temporary, path)


class Checkpoints(Callback):
    """Writes last.ckpt at the end of each epoch, after every `every_s` seconds, and when a stop was requested.

    After `every_s` seconds it is written at the next optimizer step, or before an epoch's validation. A requested stop
    then raises Stopped, on all ranks at the same step.

    last.ckpt has Lightning's format and contains plain types and tensors only (it loads with `weights_only=True`).
    "state_dict" contains the weights for validation, with keys "model.<name in MultiTaskModel>"; with EMA these are the
    averaged weights, and "current_model_state" contains the weights in training. The rest is the state of optimizer,
    schedule, loops, callbacks and data after the last step.

    A checkpoint that was written before or during a validation records that. A run resumed from it first does this
    validation, with the weights of the epoch's last step, and then continues like an uninterrupted run.
    """

    def __init__(self, run_dir: RunDir, stop: StopRequest, every_s: float = 300.0) -> None:
        self.path = run_dir.last_checkpoint
        self.stop = stop
        self.every_s = every_s
        self._written_at = time.monotonic()
        self._is_before_validation = False

    def state_dict(self) -> dict[str, Any]:
        return {"is_before_validation": self._is_before_validation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._is_before_validation = state_dict["is_before_validation"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._written_at = time.monotonic()
        if self._is_before_validation:
            restart_validation(trainer)
            self._is_before_validation = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_boundary = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        is_last = batch_idx + 1 == trainer.num_training_batches
        if not is_boundary or is_last:
            return
        is_stop_requested, is_due = self._agree(trainer)
        if is_stop_requested or is_due:
            self._write(trainer)
        if is_stop_requested:
            raise Stopped(self._message(trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and self._agree(trainer)[1]:
            self._write(trainer, is_before_validation=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_stop_requested, _ = self._agree(trainer)
        self._write(trainer)
        if is_stop_requested and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            raise Stopped(self._message(trainer))

    def stop_in_validation(self, trainer: Trainer) -> None:
        """Write a checkpoint from which a resumed run validates first, and raise Stopped; all ranks must call this.

        The module must hold the weights in training, not the averaged ones.
        """
        self._write(trainer, is_before_validation=True)
        raise Stopped(self._message(trainer))

    def _message(self, trainer: Trainer) -> str:
        return f"stopped in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}, after step {trainer.global_step}"

    def _agree(self, trainer: Trainer) -> tuple[bool, bool]:
        """Return (stop requested, checkpoint due), the same on every rank."""
        is_due = time.monotonic() - self._written_at >= self.every_s
        if trainer.world_size == 1:
            return self.stop.is_set, is_due
        flags = torch.tensor([self.stop.is_set, is_due], dtype=torch.int32, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
        return bool(flags[0]), bool(flags[1])

    def _write(self, trainer: Trainer, *, is_before_validation: bool = False) -> None:
        self._is_before_validation = is_before_validation
        write_checkpoint(trainer, self.path)
        self._is_before_validation = False
        self._written_at = time.monotonic()


class EvaluationStop(Callback):
    """Ends an evaluation pass after the current batch if a stop was requested, and raises Stopped on all ranks.

    Nothing of the pass is scored or reported. During training a checkpoint is written, see `Checkpoints`. The callback
    must follow the one that exchanges weights for the pass, and precede the one that scores it.
    """

    def __init__(self, stop: StopRequest, checkpoints: Checkpoints | None = None) -> None:
        self.stop = stop
        self.checkpoints = checkpoints

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        # All ranks evaluate the first batch, since DDP broadcasts buffers in the first forward pass after training.
        is_first = batch_idx == 0 and dataloader_idx == 0
        if not is_first and self.stop.is_requested():
            # Ends Lightning's loop over the batches. Ranks have different numbers of batches, and meet after the pass.
            raise StopIteration

    on_test_batch_start = on_validation_batch_start

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or self.checkpoints is None:
            self.stop.check("during evaluation")
        elif self.stop.is_agreed():
            self.checkpoints.stop_in_validation(trainer)

    on_test_epoch_end = on_validation_epoch_end
