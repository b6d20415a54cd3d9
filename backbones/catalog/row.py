"""The type of a catalog row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from backbones.spec.surgery import NO_SURGERY, Operation, SurgerySpec

Source = Literal["timm", "tv", "own", "design"]
LIBRARIES: dict[Source, str] = {
    "timm": "timm",
    "tv": "torchvision",
    "own": "pyramidion",
    "design": "pyramidion, design space",
}
"""The builder of a network by source: a library, a module of this project, or the design space from a preset."""


@dataclass(frozen=True)
class BackboneRow:
    """One network.

    Attributes:
        name: the name in documents.
        source, id: the builder, and the network's name there; a timm name may end with the tag of the default weights.
        family, year, paper: the family, and the paper's arXiv id (or DOI, if older); None outside the catalog.
        weights_license: the license of the default weights; None if it is unknown or there are no such weights.
        kwargs: arguments of the constructor. A network with such arguments has no default weights.
        surgery: changes to the network that `id` names; its default weights still fit.
        takes: the operations of `model.backbone.surgery` that the network supports.
        is_equivariant: whether shifting an image by 32 pixels shifts the maps, except near the border. This is true of
            convolutional networks without global pooling.
    """

    name: str
    source: Source
    id: str
    family: str | None = None
    year: int | None = None
    paper: str | None = None
    weights_license: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    surgery: SurgerySpec = NO_SURGERY
    takes: frozenset[Operation] = frozenset()
    is_equivariant: bool = False

    @property
    def has_default_weights(self) -> bool:
        """True if the library may have weights of exactly this network."""
        return self.source in ("timm", "tv") and not self.kwargs
