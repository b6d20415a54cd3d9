"""Freezing and unfreezing of parts of the network at the start of an epoch."""

from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from pipelines.base.ranks import print_rank_zero
from pipelines.model import MultiTaskModel
from pipelines.run_folder.events import EventLog, StageData
from pipelines.spec.model import ModelSpec
from pipelines.spec.transfer import frozen_parts
from pipelines.training.compilation import forget_compiled_layers
from pipelines.training.module import MultiTaskModule
from pipelines.training.strategy import LocalDDPStrategy


class Unfreezing(Callback):
    """Freezes and unfreezes parts as `model.unfreeze` requests, also in a resumed run, and reports each change.

    Lightning wraps the model in DDP after `setup` and `on_load_checkpoint`; this callback wraps it again after each
    change. The optimizer has all parameters in their groups from the start; it skips those without a gradient.
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
        # Gradients of the last step still exist, but the new DDP buckets must start without gradients.
        pl_module.zero_grad(set_to_none=True)
        model.freeze(frozen)
        forget_compiled_layers(model)
        if isinstance(trainer.strategy, LocalDDPStrategy):
            trainer.strategy.rewrap()
        self._report(trainer, model, before, frozen)

    def _report(self, trainer: Trainer, model: MultiTaskModel, before: frozenset[str], frozen: frozenset[str]) -> None:
        changes = [
            f"{_named(parts, *verbs)} from now on ({count_parameters(model, parts):,} parameters)"
            for parts, verbs in (
                (before - frozen, ("is trained", "are trained")),
                (frozen - before, ("is frozen", "are frozen")),
            )
            if parts
        ]
        message = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {'; '.join(changes)}"
        trained = [part for part in model.parts if part not in frozen]
        print_rank_zero(message)
        self.events.write(
            StageData(stage="training", message=message, trains=trained, parameters=count_parameters(model, trained)),
            epoch=trainer.current_epoch,
            step=trainer.global_step,
        )


def count_parameters(model: MultiTaskModel, parts: Iterable[str]) -> int:
    """Return the number of parameters in `parts`."""
    counted = set(parts)
    return sum(parameter.numel() for name, parameter in model.named_parameters() if model.part_of(name) in counted)


def _model(module: LightningModule) -> MultiTaskModel:
    assert isinstance(module, MultiTaskModule)
    return module.model


def _named(parts: frozenset[str], singular: str, plural: str) -> str:
    *others, last = sorted(parts)
    return f"{', '.join(others)} and {last} {plural}" if others else f"{last} {singular}"
