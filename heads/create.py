"""Build a head from its settings."""

from collections.abc import Mapping, Sequence
from pkgutil import resolve_name

from torch import Tensor

from heads.base import Head, LevelSpec, Prediction
from heads.graph_detections import OUTPUTS, split_detections
from heads.head_spec import HeadSpec


def create_head(
    spec: HeadSpec,
    *,
    level_specs: Mapping[str, LevelSpec],
    num_classes: int,
    class_weights: Tensor | None = None,
) -> Head:
    """Return a new head.

    Args:
        spec: settings of a head of `heads.spec`; its class names the implementation.
        level_specs: geometry of c3 to c5 and p3 to p7.
        num_classes: K without background; for an embedding head, the number of identities.
        class_weights: (K,), for classification heads only.

    Raises:
        ValueError: a setting does not fit the levels, or `num_classes` is less than 1.
        TypeError: class weights were passed to a head that does not take them.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes: got {num_classes}; a {spec.head} head needs at least one class")
    weights = {} if class_weights is None else {"class_weights": class_weights}
    head: Head = resolve_name(spec.implementation)(spec, level_specs=level_specs, num_classes=num_classes, **weights)
    return head


def decode_graph_outputs(
    spec: HeadSpec, outputs: Mapping[str, Tensor], image_sizes_hw: Sequence[tuple[int, int]]
) -> list[Prediction]:
    """Return one prediction per image, equal to those of `Head.decode`, without the head itself.

    Args:
        spec: settings of the head.
        outputs: of `Head.graph_outputs` or `Head.graph_detections`, by name.
        image_sizes_hw: sizes before padding.
    """
    if set(outputs) == set(OUTPUTS):
        return list(split_detections(outputs, image_sizes_hw))
    predictions: list[Prediction] = resolve_name(spec.decoder)(outputs, spec, image_sizes_hw)
    return predictions
