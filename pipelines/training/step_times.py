"""Measurements of training and evaluation batches in a trainer that trains nothing else."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.data.loading.sample import Batch
from pipelines.training.module import MultiTaskModule

SKIPPED = 2
"""Batches after each change that are not measured: they start data workers, choose algorithms and allocate memory."""


def _finish_work() -> None:
    """Wait until the GPU has done what it was given so far."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class StepTimes(Callback):
    """Measures the seconds per training batch for each set of frozen parts, and then ends training.

    Args:
        frozen_sets: the sets of frozen parts.
        num_batches: measured for each set.
        min_s: more batches are measured until this time has passed.
        max_s: fewer batches are measured after this time, but at least one.
        clock: in seconds.

    Attributes:
        seconds: by set, the mean over its measured batches, including their loading.
        images_per_s: by set, over the same batches.
    """

    def __init__(
        self,
        frozen_sets: Sequence[frozenset[str]],
        *,
        num_batches: int = 3,
        min_s: float = 1.0,
        max_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.frozen_sets = list(dict.fromkeys(frozen_sets))
        self.num_batches = num_batches
        self.min_s, self.max_s = min_s, max_s
        self.clock = clock
        self.seconds: dict[frozenset[str], float] = {}
        self.images_per_s: dict[frozenset[str], float] = {}
        self._images = 0
        self._skipped = 0
        self._measured = 0
        self._started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._next_set(pl_module)

    def _next_set(self, module: LightningModule) -> None:
        assert isinstance(module, MultiTaskModule)
        module.zero_grad(set_to_none=True)
        module.model.freeze(self.frozen_sets[len(self.seconds)])
        self._skipped = self._measured = self._images = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        _finish_work()
        now = self.clock()
        if self._skipped < SKIPPED:
            self._skipped += 1
            self._started = now
            return
        self._measured += 1
        self._images += len(batch)
        elapsed = now - self._started
        # Only whole optimizer steps count, so that the step of an accumulated gradient is in each mean.
        is_whole = self._measured % trainer.accumulate_grad_batches == 0
        is_enough = self._measured >= self.num_batches and elapsed >= self.min_s
        if not is_whole or not (is_enough or elapsed >= self.max_s):
            return
        frozen = self.frozen_sets[len(self.seconds)]
        self.images_per_s[frozen] = self._images / max(elapsed, 1e-9)
        self.seconds[frozen] = elapsed / self._measured
        if len(self.seconds) == len(self.frozen_sets):
            trainer.should_stop = True
        else:
            self._next_set(pl_module)


class EvaluationTimes(Callback):
    """Measures the seconds per evaluated image; the first batch counts only if there is no other.

    Attributes:
        seconds_per_image: None before an image was evaluated.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.seconds_per_image: float | None = None
        self._started = 0.0
        self._num_images = 0
        self._total_s = 0.0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = self.clock()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        _finish_work()
        now = self.clock()
        seconds, self._started = now - self._started, now
        if self.seconds_per_image is None:
            self.seconds_per_image = seconds / max(1, len(batch))
            return
        self._total_s += seconds
        self._num_images += len(batch)
        if self._num_images:
            self.seconds_per_image = self._total_s / self._num_images
