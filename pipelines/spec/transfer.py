"""`model.transfer`: what a transfer strategy sets where the document does not.

| strategy | rates | what trains |
|---|---|---|
| full | one for all | all, from the start |
| freeze | one for all | neck and heads alone |
| discriminative | fall toward the stem | all, from the start |
| gradual | fall toward the stem | neck and heads, then a stage more after each tenth of the epochs |
| lp-ft | one for all | neck and heads for a quarter of the epochs, then all (Kumar et al. 2022, arXiv 2202.10054) |
"""

from backbones.spec.section import Stage
from pipelines.spec.learning import Unfreeze
from pipelines.spec.model import ModelSpec

LAYER_DECAY = {"stage": 0.6, "layer": 0.85}
"""Of the discriminative strategies, by what the distance counts: networks have 3 stages and 12 layers or more."""

TOP_DOWN: tuple[Stage, ...] = ("c5", "c4", "c3")
MIN_EPOCHS = {"gradual": 4, "lp-ft": 2}


def fill_in(model: ModelSpec, max_epochs: int) -> ModelSpec:
    """Return the model with `layer_decay` and `unfreeze` set; what the document says of them stays.

    Raises:
        ValueError: there are too few epochs for the strategy, an epoch of `unfreeze` is never reached, or nothing
            trains in one.
    """
    decay = model.layer_decay
    if decay is None:
        decay = LAYER_DECAY[model.layer_decay_by] if model.transfer in ("discriminative", "gradual") else 1.0
    unfreeze = _unfreeze(model, max_epochs) if model.unfreeze is None else model.unfreeze
    if late := [epoch for epoch in unfreeze if epoch >= max_epochs]:
        raise ValueError(
            f"model.unfreeze: got the epochs {late}; trainer.max_epochs is {max_epochs}, and epochs count from 0"
        )
    filled = model.model_copy(update={"layer_decay": decay, "unfreeze": unfreeze})
    parts = {*TOP_DOWN, "neck", *(f"heads.{task}" for task in model.tasks)}
    if idle := [epoch for epoch in unfreeze if frozen_parts(filled, epoch) >= parts]:
        raise ValueError(
            f"model.lr_scale: nothing trains from epoch {idle[0]} on (from 0); leave a task's factor above 0, or give "
            "model.unfreeze a stage there"
        )
    return filled


def _unfreeze(model: ModelSpec, max_epochs: int) -> Unfreeze:
    if max_epochs < MIN_EPOCHS.get(model.transfer, 1):
        raise ValueError(
            f"model.transfer: got {model.transfer!r}, which takes {MIN_EPOCHS[model.transfer]} epochs or more; "
            f"trainer.max_epochs is {max_epochs}"
        )
    if model.transfer == "freeze":
        return {0: "none"}
    if model.transfer == "lp-ft":
        return {0: "none", max(1, round(max_epochs / 4)): "all"}
    if model.transfer == "gradual":
        first, second, _ = _order(model)
        starts = [max(count, round(count * max_epochs / 10)) for count in (1, 2, 3)]
        return {0: "none", starts[0]: (first,), starts[1]: (first, second), starts[2]: "all"}
    return {0: "all"}


def _order(model: ModelSpec) -> tuple[Stage, ...]:
    if model.unfreeze_order == "top-down":
        return TOP_DOWN
    return TOP_DOWN[::-1] if model.unfreeze_order == "bottom-up" else model.unfreeze_order


def frozen_parts(model: ModelSpec, epoch: int) -> frozenset[str]:
    """Return what does not train in `epoch` (from 0): backbone stages, `neck`, `heads.<task>`.

    Args:
        model: of a checked document.
        epoch: from 0.
    """
    assert model.unfreeze is not None
    trained = model.unfreeze[max(start for start in model.unfreeze if start <= epoch)]
    return (frozenset(TOP_DOWN) - _stages(trained)) | model.lr_scale.frozen_parts


def _stages(trained: str | tuple[Stage, ...]) -> frozenset[str]:
    if isinstance(trained, tuple):
        return frozenset(trained)
    return frozenset(TOP_DOWN) if trained == "all" else frozenset()
