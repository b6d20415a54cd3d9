"""Construction of heads from plain options."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from heads.base import Head, LevelSpec
from heads.create import create_head
from heads.spec import head_spec


def build_head(
    name: str,
    *,
    level_specs: Mapping[str, LevelSpec],
    num_classes: int,
    class_weights: Tensor | None = None,
    **options: Any,
) -> Head:
    """Return the head called `name` with these settings; all other settings have their defaults."""
    spec = head_spec(name, **options)
    return create_head(spec, level_specs=level_specs, num_classes=num_classes, class_weights=class_weights)
