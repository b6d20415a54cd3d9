"""The learning rate range test: the loss while the learning rate grows from step to step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

SMOOTHING = 0.9
"""Share of the running mean that each next loss keeps."""

DIVERGED = 4.0
"""The test ends when the running mean of the loss exceeds the lowest one by this factor."""

MIN_FALL = 0.01
"""Part of the loss by which the running mean has to fall for a suggestion."""

SKIPPED_STEPS = 5
"""First steps that are not considered, because their running mean has few losses."""


@dataclass(frozen=True)
class RangePoint:
    """One optimizer step: its learning rate, its loss, and the running mean of the losses."""

    rate: float
    loss: float
    mean_loss: float


class RateRange(Callback):
    """Lets the rate grow by the same factor in each optimizer step, and records the losses.

    The range test of Smith 2015 (arXiv 1506.01186, section 3.3), with one deviation: the rate grows exponentially, so
    that several orders of magnitude are covered. The rates of parameter groups keep their ratios.

    Args:
        lowest, highest: rates of the first and the last step.
        num_steps: number of optimizer steps.

    Attributes:
        points: the steps so far.
    """

    def __init__(self, lowest: float = 1e-6, highest: float = 1.0, num_steps: int = 100) -> None:
        self.rates = [lowest * (highest / lowest) ** (step / (num_steps - 1)) for step in range(num_steps)]
        self.points: list[RangePoint] = []
        self._losses: list[float] = []
        self._mean = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        for group in trainer.optimizers[0].param_groups:
            # The first rate of a group is its ratio to the rate of the heads, which is 1 here.
            group["lr"] = self.rates[len(self.points)] * group["base_ratio"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["base_ratio"] = group["initial_lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._losses.append(float(outputs["loss"]))
        is_last = batch_idx + 1 == trainer.num_training_batches
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not is_last:
            return
        self.record(sum(self._losses) / len(self._losses))
        self._losses.clear()
        lowest = min(point.mean_loss for point in self.points)
        is_over = self.points[-1].mean_loss > DIVERGED * abs(lowest) and len(self.points) > SKIPPED_STEPS
        if len(self.points) == len(self.rates) or is_over:
            trainer.should_stop = True

    def record(self, loss: float) -> None:
        """Add the loss of the next step."""
        number = len(self.points)
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        self.points.append(RangePoint(self.rates[number], loss, self._mean / (1 - SMOOTHING ** (number + 1))))


def suggested_rate(points: Sequence[RangePoint]) -> float | None:
    """Return the rate at which the running mean of the loss falls most steeply with the logarithm of the rate.

    Rates above that of the lowest mean are not considered; a tenth of that rate is the limit, because the mean lags
    behind the rate that the loss still bears. None if the loss does not fall.
    """
    usable = points[SKIPPED_STEPS:]
    if len(usable) < 3:
        return None
    lowest = min(range(len(usable)), key=lambda position: usable[position].mean_loss)
    slopes = {
        position: (usable[position + 1].mean_loss - usable[position - 1].mean_loss)
        / math.log(usable[position + 1].rate / usable[position - 1].rate)
        for position in range(1, lowest)
    }
    first, last = usable[0].mean_loss, usable[lowest].mean_loss
    if not slopes or first - last < MIN_FALL * abs(first):
        return None
    steepest = min(slopes, key=lambda position: slopes[position])
    return min(usable[steepest].rate, usable[lowest].rate / 10)
