"""The one LightningModule: glue between the trainer and the network."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from heads.base import BoxTarget, Prediction
from pipelines.data.datamodule import JobData
from pipelines.data.sample import Batch
from pipelines.errors import NumericsError
from pipelines.model import MultiTaskModel
from pipelines.optim.param_groups import create_optimizer
from pipelines.optim.schedules import create_schedule
from pipelines.spec.model import ModelSpec
from pipelines.spec.transfer import frozen_parts
from pipelines.training.balancing import combine
from pipelines.training.seeding import mixed_seed

Outputs = dict[str, list[Prediction]]


class MultiTaskModule(LightningModule):
    """Trains `model` as `spec` says, and predicts for evaluation.

    Attributes:
        losses: the last micro-batch's unweighted losses by "<task>/<term>", over all ranks.
    """

    def __init__(self, spec: ModelSpec, model: MultiTaskModel, seed: int) -> None:
        super().__init__()
        self.spec = spec
        self.model = model
        self.seed = seed
        self.weights = {name: task.weight for name, task in spec.tasks.items()}
        self.losses: dict[str, Tensor] = {}

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.model.freeze(frozen_parts(self.spec, self.current_epoch))

    def configure_optimizers(self) -> Any:
        fused = self.trainer.precision != "16-mixed"
        optimizer = create_optimizer(self.model, self.spec, fused=fused)
        schedule = create_schedule(optimizer, self.spec.schedule, self._num_steps())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _num_steps(self) -> int:
        # Trainer.estimated_stepping_batches makes the loader before the checkpoint is read, and Lightning 2.6 then
        # never gives the loader its position: a resumed epoch would begin with its first batch.
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, JobData)
        assert self.trainer.max_epochs is not None
        return self.trainer.max_epochs * math.ceil(data.num_train_batches() / self.trainer.accumulate_grad_batches)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of all gradients; Lightning refuses that for fused optimisers, bf16 or not."""
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed what the network draws (dropout, drop path) from the position alone: a resumed run draws the same."""
        torch.manual_seed(mixed_seed(self.seed, self.global_rank, self.current_epoch, batch_idx))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one micro-batch; raises NumericsError, on every rank, where a term is not finite.

        The gradient of an optimiser step is the mean over its micro-batches, also where an epoch ends with fewer.
        """
        losses = combine(self.model.loss(batch.images, batch.targets), self.weights)
        # One question for all terms: each costs a wait for the device.
        if not bool(torch.stack(list(losses.terms.values())).isfinite().all()):
            raise NumericsError(self._told(losses.terms))
        self.losses = losses.terms
        return losses.total * self._window_scale(batch_idx)

    def _window_scale(self, batch_idx: int) -> float:
        """Return by what to multiply, as Lightning divides by the length of a full window."""
        full = self.trainer.accumulate_grad_batches
        first = batch_idx // full * full
        return full / min(full, int(self.trainer.num_training_batches) - first)

    def _told(self, terms: Mapping[str, Tensor]) -> str:
        values = {name: float(value) for name, value in terms.items()}
        broken = ", ".join(f"{name} is {value}" for name, value in values.items() if not math.isfinite(value))
        return (
            f"the loss {broken} at epoch {self.current_epoch}, step {self.global_step}; lower model.optimizer.lr, "
            "lengthen model.schedule.warmup_steps, or set trainer.precision to 32-true"
        )

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Outputs:
        """Return B predictions by task; the second loader is a gallery, for the tasks that ask for one."""
        tasks = self.spec.gallery_tasks if dataloader_idx else sorted(self.spec.tasks)
        if not batch.infos:
            return {task: [] for task in tasks}
        boxes = {task: _labelled_boxes(batch, task) for task in tasks if self.spec.boxes_from(task)}
        return self.model.predict(batch.images, [info.size_hw for info in batch.infos], boxes, tasks)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Outputs:
        """Do what `validation_step` does."""
        return self.validation_step(batch, batch_idx, dataloader_idx)


def _labelled_boxes(batch: Batch, task: str) -> list[Tensor]:
    none = torch.zeros(0, 4, device=batch.images.device)
    return [t.boxes_xyxy if isinstance(t, BoxTarget) else none for t in batch.targets[task]]
