"""A run that resumes on another number of processes than its checkpoint was written with."""

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.base.ranks import print_rank_zero
from pipelines.data.loading.datamodule import JobData
from pipelines.run_folder.events import EventLog, WarningData
from pipelines.training.lightning_internals import batches_done, move_to_batch
from pipelines.training.module import MultiTaskModule


def batches_of(joint: int, num_ranks: int, num_batches: int, accumulated: int) -> int:
    """Return the batches of each process at the last optimizer step that `joint` batches of all processes fill up.

    Args:
        joint: number of batches of an unfinished epoch, over all processes.
        num_ranks: number of processes now.
        num_batches: batches of each process in an epoch now; at least one remains.
        accumulated: batches of an optimizer step.
    """
    done = min(joint // num_ranks, num_batches - 1)
    return done - done % accumulated


class RankChanges(Callback):
    """Continues the epoch of a checkpoint at the image where it was, and the decay of the learning rate to the new end.

    Batches of a process keep their size, so with another number of processes an epoch has another number of steps, and
    each step other images. An interrupted epoch continues at the last optimizer step that its images fill up, so that
    at most the images of one step are drawn again. The callback must follow `Budget`, and precede `Checkpoints`.

    Args:
        events: for the sentence that says so.
    """

    def __init__(self, events: EventLog) -> None:
        self.events = events
        self._module: MultiTaskModule | None = None
        self._num_ranks = self._num_batches = 1
        self._saved: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        assert self._module is not None
        decay = list(self._module.decay.state)
        return {"num_ranks": self._num_ranks, "num_batches": self._num_batches, "decay": decay}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, MultiTaskModule)
        self._module = pl_module
        self._num_ranks = trainer.world_size

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved = checkpoint["callbacks"].get(self.state_key)
        if not self._is_changed():
            return
        assert self._saved is not None
        data, limit = trainer.datamodule, trainer.limit_train_batches  # type: ignore[attr-defined]
        assert isinstance(data, JobData)
        num_batches = data.num_train_batches()
        num_batches = min(limit, num_batches) if isinstance(limit, int) else num_batches
        done = batches_done(checkpoint)
        if done >= self._saved["num_batches"]:
            done = num_batches
        else:
            joint = done * self._saved["num_ranks"]
            done = batches_of(joint, self._num_ranks, num_batches, trainer.accumulate_grad_batches)
        move_to_batch(checkpoint, done)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._module is not None
        self._num_batches = int(trainer.num_training_batches)
        if self._saved is None:
            return
        first, share, last = self._saved["decay"]
        self._module.decay.state = (first, share, last)
        if self._is_changed():
            self._extend_decay(trainer, self._module)
            message = (
                f"this attempt has {self._num_ranks} process(es) instead of {self._saved['num_ranks']}: it continues "
                "from the last checkpoint, with other batches, so its numbers differ from those of an unchanged run"
            )
            print_rank_zero(message)
            self.events.write(WarningData(message=message), epoch=trainer.current_epoch, step=trainer.global_step)
        self._saved = None

    def _is_changed(self) -> bool:
        return self._saved is not None and self._saved["num_ranks"] != self._num_ranks

    def _extend_decay(self, trainer: Trainer, module: MultiTaskModule) -> None:
        """Spread what remains of the decay over the steps that the run will still take."""
        full = trainer.accumulate_grad_batches
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready % self._num_batches
        epochs = (trainer.max_epochs or 0) - trainer.current_epoch - 1
        steps = epochs * math.ceil(self._num_batches / full) + math.ceil((self._num_batches - done) / full)
        module.num_steps = trainer.global_step + steps
        module.decay.end_at(module.num_steps - 1, now=trainer.global_step)
