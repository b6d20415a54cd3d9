"""Which stages of the backbone train: a pure function of the epoch."""

from collections.abc import Mapping, Sequence

from backbones.base import LEVELS


def frozen_stages(unfreeze: Mapping[int, str | Sequence[str]], epoch: int) -> frozenset[str]:
    """Return the stages that do not train in `epoch`.

    Args:
        unfreeze: epoch -> the complete set of trainable stages from then on (`none`, `all`, or names).
        epoch: from 0.
    """
    trainable = unfreeze[max(start for start in unfreeze if start <= epoch)]
    if trainable == "all":
        return frozenset()
    return frozenset(LEVELS) - (frozenset() if trainable == "none" else frozenset(trainable))
