"""The LightningModule that connects Lightning's trainer with the network."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from heads.base import Prediction
from pipelines.base.errors import ConfigError, FieldProblem, NumericsError
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import Batch
from pipelines.model import MultiTaskModel
from pipelines.optim.param_groups import create_optimizer
from pipelines.optim.schedules import create_schedule, decay_of
from pipelines.spec.model import ModelSpec
from pipelines.training.aggregation import Aggregation
from pipelines.training.balancing import GlobalLosses, create_balance, global_losses
from pipelines.training.compilation import without_compilation
from pipelines.training.gradients import gradient_statistics, last_shared_layer
from pipelines.training.non_finite import Position, non_finite_loss
from pipelines.training.seeding import mixed_seed

Outputs = dict[str, list[Prediction]]


class MultiTaskModule(LightningModule):
    """Trains `model` with the optimizer, schedule and task balance of `spec`, and predicts for evaluation.

    It works with any `lightning.Trainer` whose batches are those of `JobData`; with several devices, the trainer needs
    `use_distributed_sampler=False`.

    Args:
        spec: `model` of the document.
        model: the network.
        seed: of the network's random numbers (dropout, drop path).
        non_finite_dir: folder for a batch whose loss is not finite; None: it is not kept.

    Attributes:
        balance: weighs the tasks.
        num_steps: optimizer steps of the whole run; 0 before the optimizer is created.
        decay: of the learning rates.
        losses: the last micro-batch's unweighted losses by "<task>/<term>", over all ranks (see `GlobalLosses.terms`).
        gradients: statistics of the tasks' gradients (see `gradient_statistics`) if the last micro-batch ended a step
            for which `spec` requests them; else empty.
    """

    def __init__(self, spec: ModelSpec, model: MultiTaskModel, seed: int, non_finite_dir: Path | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.model = model
        self.seed = seed
        self.non_finite_dir = non_finite_dir
        self.balance = create_balance(spec)
        self.aggregation = None if spec.aggregate == "none" else Aggregation(spec.aggregate, model)
        self.num_steps = 0
        self.decay = decay_of(spec.schedule, 0)
        self.losses: dict[str, Tensor] = {}
        self._is_present = torch.zeros(0)
        self.gradients: dict[str, float | None] = {}

    def configure_optimizers(self) -> Any:
        fused = self.trainer.precision != "16-mixed"
        optimizer = create_optimizer(self.model, self.spec, fused=fused, extra={"balance": self.balance})
        self.num_steps = self._num_steps()
        self.decay = decay_of(self.spec.schedule, self.num_steps)
        schedule = create_schedule(optimizer, self.spec.schedule, self.decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _num_steps(self) -> int:
        trainer, data = self.trainer, getattr(self.trainer, "datamodule", None)
        if not isinstance(data, JobData) or trainer.max_epochs is None or trainer.max_epochs < 0:
            steps = trainer.estimated_stepping_batches
            if not 0 < steps < math.inf:
                raise ConfigError(FieldProblem("trainer.max_epochs", "missing; the schedule needs the number of steps"))
            return int(steps)
        # Trainer.estimated_stepping_batches creates the loader before the checkpoint is read, and Lightning 2.6 then
        # never restores the loader's position: a resumed epoch would start with its first batch.
        limit, batches = trainer.limit_train_batches, data.num_train_batches()
        batches = min(limit, batches) if isinstance(limit, int) else int((limit or 1.0) * batches)
        steps = trainer.max_epochs * math.ceil(batches / trainer.accumulate_grad_batches)
        return steps if trainer.max_steps < 0 else min(steps, trainer.max_steps)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the norm of the network's gradients; Lightning itself does not do this for fused optimizers."""
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the network's random numbers by the batch's position alone, so that a resumed run draws the same."""
        torch.manual_seed(self._seed_of(batch_idx))

    def _seed_of(self, batch_idx: int) -> int:
        return mixed_seed(self.seed, self.global_rank, self.current_epoch, batch_idx)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one micro-batch; raises NumericsError, on every rank, if a term is not finite.

        The gradient of an optimizer step is the mean over its micro-batches, also for a shorter step at an epoch's end.
        """
        network = self.model if self.aggregation is None else self.aggregation
        losses = global_losses(network.loss(batch.images, batch.targets, batch.image_sizes_hw))
        # One check for all terms, since each check waits for the device.
        if not bool(torch.stack(list(losses.terms.values())).isfinite().all()):
            raise self._non_finite(batch, batch_idx, losses.terms)
        self.losses, self._is_present = losses.terms, losses.is_present
        self.gradients = self._gradients(losses, batch_idx)
        weighted = {task: loss * self._window_scale(batch_idx) for task, loss in self.balance(losses).items()}
        if self.aggregation is not None:
            self.aggregation.keep(weighted, losses.is_active.tolist(), self.trainer.accumulate_grad_batches)
        return torch.stack(list(weighted.values())).sum()

    def present_losses(self) -> dict[str, float]:
        """Return `losses` without the terms for which nothing in the batch was labeled, which are not losses of 0."""
        present = self._is_present.tolist()
        return {name: float(loss) for (name, loss), is_one in zip(self.losses.items(), present, strict=True) if is_one}

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Add the gradients of one micro-batch."""
        if self.aggregation is None:
            super().backward(loss, *args, **kwargs)
        else:
            self.aggregation.backward()

    def _gradients(self, losses: GlobalLosses, batch_idx: int) -> dict[str, float | None]:
        """Return the statistics at the last micro-batch of every n-th optimizer step."""
        every = self.spec.gradients_every_n_steps
        position = batch_idx + 1
        window_ends = (
            position % self.trainer.accumulate_grad_batches == 0 or self.trainer.num_training_batches == position
        )
        if not every or len(self.spec.tasks) < 2 or not window_ends or (self.global_step + 1) % every:
            return {}
        layer = last_shared_layer(self.model)
        return gradient_statistics(losses, layer) if layer else {}

    def _window_scale(self, batch_idx: int) -> float:
        """Return the factor that corrects a shorter step at an epoch's end: Lightning divides by the full length."""
        full = self.trainer.accumulate_grad_batches
        first = batch_idx // full * full
        return full / min(full, self.trainer.num_training_batches - first)

    def _non_finite(self, batch: Batch, batch_idx: int, terms: Mapping[str, Tensor]) -> NumericsError:
        position = Position(self.current_epoch, self.global_step, batch_idx, self.global_rank, self._seed_of(batch_idx))
        return non_finite_loss(batch, terms, position, self.non_finite_dir)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Outputs:
        """Return B predictions by task; of the second loader, the gallery, only for the tasks that use a gallery."""
        tasks = self.spec.gallery_tasks if dataloader_idx else sorted(self.spec.tasks)
        if not batch.infos:
            return {task: [] for task in tasks}
        boxes = {task: _labeled_boxes(batch, task) for task in tasks if self.spec.boxes_from(task)}
        with without_compilation(self.model):
            return self.model.predict(batch.images, batch.image_sizes_hw, boxes, tasks)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Outputs:
        """Return the same as `validation_step`."""
        return self.validation_step(batch, batch_idx, dataloader_idx)


def _labeled_boxes(batch: Batch, task: str) -> list[Tensor]:
    none = torch.zeros(0, 4, device=batch.images.device)
    found = [None if target is None else target.object_boxes_xyxy for target in batch.targets[task]]
    return [none if boxes is None else boxes for boxes in found]
