"""A head by the name that the job document gives it."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from torch import Tensor

from heads.base import Head, LevelSpec
from heads.classification import MulticlassHead, MultilabelHead
from heads.embedding import create_embedding_head
from heads.fcos import FCOSHead
from heads.retinanet import RetinaNetHead

_CONSTRUCTORS: dict[str, Callable[..., Head]] = {
    "retinanet": RetinaNetHead,
    "fcos": FCOSHead,
    "multiclass": MulticlassHead,
    "multilabel": MultilabelHead,
    "embedding": create_embedding_head,
}


def create_head(
    kind: str,
    *,
    level_specs: Mapping[str, LevelSpec],
    num_classes: int,
    class_weights: Tensor | None = None,
    **options: Any,
) -> Head:
    """Return a new head.

    Args:
        kind: a name of `heads.catalog.HEADS`.
        level_specs: geometry of c3 to c5 and p3 to p7.
        num_classes: K without background; for an embedding the number of identities.
        class_weights: (K,), for `multiclass` and `multilabel` only.
        options: the constructor's own.

    Raises:
        ValueError: the kind is unknown, or a value does not fit.
        TypeError: the kind does not have such an option.
    """
    if kind not in _CONSTRUCTORS:
        nearest = get_close_matches(kind, _CONSTRUCTORS, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(f"head {kind!r} is not in the catalog; {hint}choose from {sorted(_CONSTRUCTORS)}")
    if num_classes < 1:
        raise ValueError(f"num_classes: got {num_classes}; a {kind} head needs at least one class")
    if class_weights is not None:
        options["class_weights"] = class_weights
    return _CONSTRUCTORS[kind](level_specs=level_specs, num_classes=num_classes, **options)
