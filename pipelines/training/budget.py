"""The wall time of a run: the number of epochs follows the time that is used."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from pipelines.base.clock import format_duration
from pipelines.base.ranks import print_rank_zero
from pipelines.run_folder.events import EventLog, StageData
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import BudgetUse, Costs
from pipelines.spec.model import ModelSpec
from pipelines.spec.training import TrainerSpec
from pipelines.training.module import MultiTaskModule
from pipelines.training.run_length import RunLength, batch_seconds, largest, run_seconds

Clock = Callable[[], float]

SAVED_EVERY_S = 10.0
"""Interval at which the used time is written: a killed attempt has used its time, too."""

MIN_USE = 0.85
"""A run is made longer only if its forecast leaves more than the rest of the remaining time unused."""


def stopwatch(started: float | None = None) -> Clock:
    """Return a clock that shows the seconds since `started` of `time.monotonic`, by default since now."""
    zero = time.monotonic() if started is None else started
    return lambda: time.monotonic() - zero


class UsedTime:
    """The seconds that all attempts of a run have used.

    Args:
        run_dir: the run folder, where it is stored.
        clock: seconds since this attempt started.
    """

    def __init__(self, run_dir: RunDir, clock: Clock) -> None:
        self._path = run_dir.budget
        self._clock = clock
        earlier = BudgetUse.read_if_valid(self._path)
        self._before = earlier.used_s if earlier and run_dir.last_checkpoint.exists() else 0.0
        self._saved_at = -math.inf

    def seconds(self) -> float:
        """Return the used time."""
        return self._before + self._clock()

    def restore(self, used_s: float) -> None:
        """Take the time that a checkpoint recorded, unless more is known."""
        self._before = max(self._before, used_s)

    def save(self, *, is_due: bool = False) -> None:
        """Store the used time; without `is_due` only after `SAVED_EVERY_S`."""
        if is_due or self._clock() - self._saved_at >= SAVED_EVERY_S:
            self._saved_at = self._clock()
            BudgetUse(used_s=round(self.seconds(), 3)).write(self._path)


class Budget(Callback):
    """Changes the number of epochs so that the run ends within `trainer.budget`, and the learning rate with it.

    After each epoch, rank 0 forecasts the rest of the run from the measured times, and all ranks follow its decision: a
    run that would take longer gets fewer epochs, but at least one more, and one that would leave much time unused gets
    more. The decay of the learning rate is spread over what remains (`pipelines.optim.schedules.Decay`).

    The decisions are part of the checkpoints, so a resumed epoch has the rates of the interrupted one. The callback
    must precede `Checkpoints`.

    Args:
        spec: `trainer` of the document, with a budget; `max_epochs` is the number of epochs that was planned.
        model: `model` of the document.
        costs: measured when the run started.
        used: the time used so far.
        events: for changes.
    """

    def __init__(self, spec: TrainerSpec, model: ModelSpec, costs: Costs, used: UsedTime, events: EventLog) -> None:
        assert spec.budget_s is not None
        self.budget_s = spec.budget_s
        self.model = model
        self.costs = costs
        self.used = used
        self.events = events
        self.num_epochs = spec.max_epochs
        self.slowdown = 1.0
        self.decay: tuple[int, float, int] | None = None
        self._epoch_started = 0.0
        self._trained_s = 0.0
        self._batches = 0
        self._validation_started = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {
            "used_s": self.used.seconds(),
            "num_epochs": self.num_epochs,
            "decay": None if self.decay is None else list(self.decay),
            "slowdown": self.slowdown,
            "validation_s": self.costs.validation_s,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.used.restore(state_dict["used_s"])
        self.num_epochs = state_dict["num_epochs"]
        first, done, last = state_dict["decay"] or (0, 0.0, 0)
        self.decay = (first, done, last) if state_dict["decay"] else None
        self.slowdown = state_dict["slowdown"]
        self.costs = self.costs.model_copy(update={"validation_s": state_dict["validation_s"]})

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.fit_loop.max_epochs = self.num_epochs
        if self.decay is not None:
            assert isinstance(pl_module, MultiTaskModule)
            pl_module.decay.state = self.decay

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A resumed epoch does not start again.
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_started = self.used.seconds()
        self._trained_s = 0.0
        self._batches = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batches += 1
        self._trained_s = self.used.seconds() - self._epoch_started
        if trainer.is_global_zero:
            self.used.save()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_started = self.used.seconds()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            validation_s = self.used.seconds() - self._validation_started
            self.costs = self.costs.model_copy(update={"validation_s": validation_s})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch
        expected_s = self._batches * batch_seconds(self.model, self.costs, epoch, epoch + 1)
        if expected_s > 0:
            self.slowdown = self._trained_s / expected_s
        if trainer.is_global_zero:
            self.used.save(is_due=True)
        # The clocks of the ranks differ.
        num_epochs = trainer.strategy.broadcast(self._revised(trainer))
        if num_epochs != self.num_epochs:
            assert isinstance(pl_module, MultiTaskModule)
            self._change(trainer, pl_module, num_epochs)

    def _revised(self, trainer: Trainer) -> int:
        """Return the number of epochs that fits what remains of the budget."""
        done = trainer.current_epoch + 1
        if done >= self.num_epochs or trainer.should_stop:
            return self.num_epochs
        left_s = self.budget_s - self.used.seconds()
        steps_s = {name: seconds * self.slowdown for name, seconds in self.costs.step_s.items()}
        costs = self.costs.model_copy(update={"step_s": steps_s})
        length = RunLength(self.num_epochs, int(trainer.num_training_batches), trainer.check_val_every_n_epoch or 1)

        def forecast_s(num_epochs: int) -> float:
            return run_seconds(self.model, costs, replace(length, num_epochs=num_epochs), done)

        if MIN_USE * left_s <= forecast_s(self.num_epochs) <= left_s:
            return self.num_epochs
        return max(done + 1, largest(lambda number: forecast_s(number) <= left_s, done + 1))

    def _change(self, trainer: Trainer, module: MultiTaskModule, num_epochs: int) -> None:
        steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        module.num_steps = trainer.global_step + (num_epochs - trainer.current_epoch - 1) * steps
        module.decay.end_at(module.num_steps - 1, now=trainer.global_step)
        message = (
            f"{format_duration(self.used.seconds())} of {format_duration(self.budget_s)} are used after epoch "
            f"{trainer.current_epoch + 1}: training ends after epoch {num_epochs} instead of {self.num_epochs}"
        )
        self.decay = module.decay.state
        self.num_epochs = trainer.fit_loop.max_epochs = num_epochs
        self._follow_last_epochs(trainer)
        print_rank_zero(message)
        self.events.write(
            StageData(stage="training", message=message), epoch=trainer.current_epoch, step=trainer.global_step
        )

    @staticmethod
    def _follow_last_epochs(trainer: Trainer) -> None:
        """Let the last epochs be those without operations over several images."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        loader = trainer.train_dataloader
        if loader is not None and data is not None:
            loader.batch_sampler.num_combining_epochs = data.train_sampler().num_combining_epochs
