"""Early stopping of a training run that no longer improves."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from pipelines.base.ranks import print_rank_zero
from pipelines.evaluation.metric_names import selection
from pipelines.run_folder.events import EventLog, StageData
from pipelines.spec.training import EarlyStoppingSpec
from pipelines.training.scoring import Scoring


class EarlyStopping(Callback):
    """Ends training after `patience` validations in a row that did not exceed the best score by more than `min_delta`.

    Validations before the last epoch of `model.unfreeze` are not counted, because parts of the network are still to be
    trained. Their best score must still be exceeded, since it is the score of best.ckpt. An undefined score is not an
    improvement. All ranks have the same scores and decide alike.

    The callback must follow `scoring`. Its state is in the checkpoints; a run resumed after an early stop does not
    train again.
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
        # The callback's state is restored by now, but Lightning resets its own flag.
        trainer.should_stop = self.is_over

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        scores = self.scoring.scores
        assert scores is not None
        self.count(scores.summary[self.select.metric], trainer.current_epoch)
        # The last epoch ends training anyway.
        if self.waited < self.spec.patience or trainer.current_epoch + 1 >= (trainer.max_epochs or 0):
            return
        self.is_over = trainer.should_stop = True
        validations = "one validation" if self.waited == 1 else f"{self.waited} validations"
        message = f"stopped early at epoch {trainer.current_epoch + 1}: no improvement in {validations}"
        self.events.write(
            StageData(stage="stopped_early", message=message), epoch=trainer.current_epoch, step=trainer.global_step
        )
        print_rank_zero(message)

    def count(self, value: float | None, epoch: int) -> None:
        """Count the score of one validation; epochs are numbered from 0."""
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
