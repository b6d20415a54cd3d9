"""The end of a training that becomes no better."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from pipelines.evaluation.metric_names import selection
from pipelines.ranks import print_rank_zero
from pipelines.run_folder.events import EventLog, StageData
from pipelines.spec.training import EarlyStoppingSpec
from pipelines.training.scoring import Scoring


class EarlyStopping(Callback):
    """Ends training after `patience` validations in a row that were not better than the best by more than `min_delta`.

    Validations before the last epoch of `model.unfreeze` are not counted: what trains then is not all that will. What
    scored best in them still has to be surpassed, since it is what best.ckpt holds. A score that is undefined is not
    better. All ranks have the same scores, and decide alike.

    Among the callbacks it comes after `scoring`. What it knows is in the checkpoints; a run that goes on from one
    written after the end trains no further.
    """

    def __init__(self, spec: EarlyStoppingSpec, scoring: Scoring, events: EventLog) -> None:
        assert scoring.spec.unfreeze is not None
        self.spec = spec
        self.scoring = scoring
        self.select = selection(scoring.spec)
        self.first_epoch = max(scoring.spec.unfreeze)
        self.events = events
        self.best: float | None = None
        self.waited = 0
        self.is_over = False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "is_over": self.is_over}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.waited, self.is_over = (state_dict[key] for key in ("best", "waited", "is_over"))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Callbacks have their state by now; Lightning has forgotten its own.
        trainer.should_stop = self.is_over

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        scores = self.scoring.scores
        assert scores is not None
        self.count(scores.summary[self.select.metric], trainer.current_epoch)
        # After the last epoch there is nothing to stop.
        if self.waited < self.spec.patience or trainer.current_epoch + 1 >= (trainer.max_epochs or 0):
            return
        self.is_over = trainer.should_stop = True
        validations = "one validation" if self.waited == 1 else f"{self.waited} validations"
        told = f"stopped early at epoch {trainer.current_epoch + 1}: no better for {validations}"
        self.events.write(
            StageData(stage="stopped_early", message=told), epoch=trainer.current_epoch, step=trainer.global_step
        )
        print_rank_zero(told)

    def count(self, value: float | None, epoch: int) -> None:
        """Take one validation's score, of an epoch from 0."""
        if self._is_better(value):
            self.best, self.waited = value, 0
        elif epoch >= self.first_epoch:
            self.waited += 1

    def _is_better(self, value: float | None) -> bool:
        if value is None or value != value:
            return False
        if self.best is None:
            return True
        gain = value - self.best if self.select.mode == "max" else self.best - value
        return gain > self.spec.min_delta
