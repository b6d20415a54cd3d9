"""Reports of training progress: a line on the terminal, events, and tracked metrics."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.base.clock import format_duration
from pipelines.base.ranks import print_rank_zero
from pipelines.base.terminal import redraws_lines, unescaped
from pipelines.data.loading.sample import Batch
from pipelines.run_folder.events import EventLog, MetricData, ProgressData, WarningData
from pipelines.tracking.tracker import Tracker
from pipelines.training.module import MultiTaskModule

DEFAULT_COLUMNS = 80

SCREEN_EVERY_S = 0.5
"""Interval at which the line on a terminal is updated; other outputs get one line per epoch."""


class ProgressReporter(Callback):
    """Reports losses, learning rate, speed and remaining time, on rank 0.

    The remaining time is that of the remaining training batches and validations at the average pace so far.
    """

    def __init__(self, events: EventLog, tracker: Tracker | None, every_n_steps: int) -> None:
        self.events = events
        self.every_n_steps = every_n_steps
        self.tracker = tracker
        self.train_s = 0.0
        self._images = 0
        self._started = 0.0
        self._shown = 0.0
        self._batches = 0
        self._losses: dict[str, list[float]] = {}
        self._validations = 0
        self._validation_s = 0.0
        self._validation_started = 0.0

    @property
    def state_key(self) -> str:
        """Name of the state in checkpoints; the one that earlier versions wrote."""
        return "Progress"

    def state_dict(self) -> dict[str, Any]:
        return {"train_s": self.train_s + self._running()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.train_s = state_dict["train_s"]

    def _running(self) -> float:
        return time.monotonic() - self._started if self._started else 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()
        assert isinstance(pl_module, MultiTaskModule)
        warmup, steps = pl_module.spec.schedule.warmup_steps, pl_module.num_steps
        if trainer.global_step == 0 and warmup > steps:
            self._warn(
                f"model.schedule.warmup_steps: got {warmup}, but the run has only {steps} steps: learning rates never "
                "reach their maximum; write fewer, or raise trainer.max_epochs"
            )

    def _warn(self, text: str) -> None:
        print_rank_zero(f"warning: {text}")
        self.events.write(WarningData(message=text))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.train_s += self._running()
        self._started = 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_started = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validations += 1
        self._validation_s += time.monotonic() - self._validation_started

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, MultiTaskModule)
        self._images += len(batch) * trainer.world_size
        self._batches += 1
        for name, value in pl_module.present_losses().items():
            self._losses.setdefault(name, []).append(value)
        is_last = batch_idx + 1 == trainer.num_training_batches
        if is_last or (batch_idx + 1) % (self.every_n_steps * trainer.accumulate_grad_batches) == 0:
            self._report(trainer, pl_module, batch_idx)
        if pl_module.gradients:
            self._report_gradients(trainer, pl_module.gradients)
        if is_last or (redraws_lines(sys.stderr) and time.monotonic() - self._shown > SCREEN_EVERY_S):
            self._show(trainer, batch_idx, is_last)
        if is_last:
            self._losses.clear()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MultiTaskModule)
        # The remaining time reported so far included the epochs that an early stop skips.
        if trainer.is_global_zero and trainer.should_stop and pl_module.losses:
            self._report(trainer, pl_module, int(trainer.num_training_batches) - 1)

    def remaining_s(self, trainer: Trainer, batch_idx: int) -> float:
        """Return the estimated seconds until training ends, if it does not stop early; without the final test."""
        if trainer.should_stop:
            return 0.0
        assert trainer.max_epochs is not None
        training_s = self._running() - self._validation_s
        epochs_left = trainer.max_epochs - trainer.current_epoch - 1
        batches_left = epochs_left * trainer.num_training_batches + trainer.num_training_batches - batch_idx - 1
        every = trainer.check_val_every_n_epoch or 1
        validations_left = trainer.max_epochs // every - trainer.current_epoch // every
        validation_s = self._validation_s / self._validations if self._validations else 0.0
        return float(batches_left * training_s / max(1, self._batches) + validations_left * validation_s)

    def _images_per_s(self) -> float:
        return self._images / max(1e-9, self._running() - self._validation_s)

    def _report(self, trainer: Trainer, module: MultiTaskModule, batch_idx: int) -> None:
        losses = {f"train/{name}": value for name, value in module.present_losses().items()}
        rate = max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)
        balance = {f"balance/{task}": factor for task, factor in module.balance.factors().items()}
        data = ProgressData(
            losses=losses,
            lr=rate,
            images_per_s=round(self._images_per_s(), 2),
            left_s=round(self.remaining_s(trainer, batch_idx), 1),
            batch=batch_idx + 1,
            batches=int(trainer.num_training_batches),
            max_epochs=trainer.max_epochs,
            **balance,
        )
        self.events.write(data, epoch=trainer.current_epoch, step=trainer.global_step)
        if self.tracker is not None:
            self.tracker.log_metrics({**losses, **balance, "train/lr": rate}, step=trainer.global_step)

    def _report_gradients(self, trainer: Trainer, gradients: Mapping[str, float | None]) -> None:
        self.events.write(MetricData(dict(gradients)), epoch=trainer.current_epoch, step=trainer.global_step)
        if self.tracker is not None:
            self.tracker.log_metrics(gradients, step=trainer.global_step)

    def _show(self, trainer: Trainer, batch_idx: int, is_last: bool) -> None:
        """Print the line; its losses are the means of the epoch so far.

        On a terminal, a line that will be drawn again leaves out what does not fit; that of a whole epoch is complete.
        """
        parts = [
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            f"batch {batch_idx + 1}/{trainer.num_training_batches}",
            f"{self._images_per_s():.1f} images/s",
            f"left {format_duration(self.remaining_s(trainer, batch_idx))}",
            *(f"{name} {sum(values) / len(values):.3f}" for name, values in self._losses.items()),
        ]
        if redraws_lines(sys.stderr):
            columns = terminal_columns()
            line = "\n".join(broken_into_lines(parts, columns)) if is_last else fitting(parts, columns)
            print(end="\r", file=sys.stderr)
            print(end="\x1b[2K", file=unescaped(sys.stderr))
            print(line, end="\n" if is_last else "", file=sys.stderr, flush=True)
        else:
            print("  ".join(parts), file=sys.stderr, flush=True)
        self._shown = time.monotonic()


def terminal_columns() -> int:
    """Return the width of the terminal of stderr."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or DEFAULT_COLUMNS
    except OSError:
        return DEFAULT_COLUMNS


def broken_into_lines(parts: Sequence[str], columns: int) -> list[str]:
    """Return all parts in as many lines of a terminal as they need; lines after the first one are indented."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(f"{lines[-1]}  {part}") < columns:
            lines[-1] += f"  {part}"
        else:
            lines.append(f"  {part}")
    return lines


def fitting(parts: Sequence[str], columns: int) -> str:
    """Return as many parts as fit into one line of a terminal, which would wrap a longer line and then keep its start.

    One column stays free: some terminals wrap a line that fills the last one.
    """
    shown = parts[0]
    for position, part in enumerate(parts[1:], start=1):
        more = "" if position == len(parts) - 1 else "  ..."
        if len(f"{shown}  {part}{more}") >= columns:
            return f"{shown}  ..."[: columns - 1]
        shown = f"{shown}  {part}"
    return shown[: columns - 1]
