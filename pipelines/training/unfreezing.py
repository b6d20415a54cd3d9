"""Which parts of the network train, epoch by epoch."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.model import MultiTaskModel
from pipelines.ranks import print_rank_zero
from pipelines.run_folder.events import EventLog, StageData
from pipelines.spec.model import ModelSpec
from pipelines.spec.transfer import frozen_parts
from pipelines.training.module import MultiTaskModule
from pipelines.training.strategy import LocalDDPStrategy


class Unfreezing(Callback):
    """Keeps what is frozen a function of the epoch, also where a run goes on from a checkpoint, and tells changes.

    DDP wraps what `setup` and `on_load_checkpoint` have left trainable, and is made anew where that changes. The
    optimizer has all parameters in their groups from the start; it passes over those that have no gradient.
    """

    def __init__(self, spec: ModelSpec, events: EventLog) -> None:
        self.spec = spec
        self.events = events

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            _model(pl_module).freeze(frozen_parts(self.spec, trainer.current_epoch))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        _model(pl_module).freeze(frozen_parts(self.spec, checkpoint["epoch"]))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model = _model(pl_module)
        before, frozen = model.frozen_parts, frozen_parts(self.spec, trainer.current_epoch)
        if frozen == before:
            return
        # Gradients of the last step are still there; the new buckets are to begin with none.
        pl_module.zero_grad(set_to_none=True)
        model.freeze(frozen)
        if isinstance(trainer.strategy, LocalDDPStrategy):
            trainer.strategy.rewrap()
        self._tell(trainer, model, before, frozen)

    def _tell(self, trainer: Trainer, model: MultiTaskModel, before: frozenset[str], frozen: frozenset[str]) -> None:
        changes = [
            f"{_named(parts, *verbs)} now ({count_parameters(model, parts):,} parameters)"
            for parts, verbs in ((before - frozen, ("trains", "train")), (frozen - before, ("is frozen", "are frozen")))
            if parts
        ]
        told = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {'; '.join(changes)}"
        trained = [part for part in model.parts if part not in frozen]
        print_rank_zero(told)
        self.events.write(
            StageData(stage="training", message=told, trains=trained, parameters=count_parameters(model, trained)),
            epoch=trainer.current_epoch,
            step=trainer.global_step,
        )


def count_parameters(model: MultiTaskModel, parts: Iterable[str]) -> int:
    """Return how many numbers the parameters of `parts` hold."""
    wanted = set(parts)
    return sum(parameter.numel() for name, parameter in model.named_parameters() if model.part_of(name) in wanted)


def _model(module: LightningModule) -> MultiTaskModel:
    assert isinstance(module, MultiTaskModule)
    return module.model


def _named(parts: frozenset[str], singular: str, plural: str) -> str:
    *others, last = sorted(parts)
    return f"{', '.join(others)} and {last} {plural}" if others else f"{last} {singular}"
