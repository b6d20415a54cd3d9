"""`model.transfer`: the values that a transfer strategy sets if the document does not.

| strategy | learning rates | parts that train |
|---|---|---|
| full | equal | all, from the start |
| freeze | equal | neck and heads only |
| discriminative | decrease toward the stem | all, from the start |
| gradual | decrease toward the stem | neck and heads, then one more stage after each tenth of the epochs |
| lp-ft | equal | neck and heads for a quarter of the epochs, then all (Kumar et al. 2022, arXiv 2202.10054) |
"""

from backbones.spec.section import Stage
from pipelines.spec.learning import Unfreeze
from pipelines.spec.model import ModelSpec

LAYER_DECAY = {"stage": 0.6, "layer": 0.85}
"""Default of the discriminative strategies by `layer_decay_by`: a network has 3 stages, and 12 layers or more."""

TOP_DOWN: tuple[Stage, ...] = ("c5", "c4", "c3")
MIN_EPOCHS = {"gradual": 4, "lp-ft": 2}


def fill_in(model: ModelSpec, max_epochs: int) -> ModelSpec:
    """Return the model with defaults for `layer_decay` and `unfreeze`; values in the document are kept.

    Raises:
        ValueError: the strategy needs more epochs, an epoch of `unfreeze` is never reached, or in an epoch nothing
            trains.
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
            f"model.lr_scale: nothing trains from epoch {idle[0]} on; give a task a factor above 0, or add a stage to "
            "model.unfreeze at that epoch"
        )
    return filled


def min_epochs(model: ModelSpec) -> int:
    """Return the smallest `trainer.max_epochs` that the strategy, or an explicit `unfreeze`, can have."""
    return MIN_EPOCHS.get(model.transfer, 1) if model.unfreeze is None else max(model.unfreeze) + 1


def _unfreeze(model: ModelSpec, max_epochs: int) -> Unfreeze:
    if max_epochs < MIN_EPOCHS.get(model.transfer, 1):
        raise ValueError(
            f"model.transfer: got {model.transfer!r}, which needs at least {MIN_EPOCHS[model.transfer]} epochs; "
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
    """Return the parts that do not train in an epoch: backbone stages, `neck`, `heads.<task>`.

    Args:
        model: from a validated document.
        epoch: counted from 0.
    """
    assert model.unfreeze is not None
    trained = model.unfreeze[max(start for start in model.unfreeze if start <= epoch)]
    return (frozenset(TOP_DOWN) - _stages(trained)) | model.lr_scale.frozen_parts


def _stages(trained: str | tuple[Stage, ...]) -> frozenset[str]:
    if isinstance(trained, tuple):
        return frozenset(trained)
    return frozenset(TOP_DOWN) if trained == "all" else frozenset()
