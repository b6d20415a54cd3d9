"""What a row of the catalog says of a network."""

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
"""Who builds a network: a library, a module of ours, or the design space from a preset."""


@dataclass(frozen=True)
class BackboneRow:
    """One network.

    Attributes:
        name: what a document calls it.
        source, id: who builds it, and its name there; a tag behind a dot picks timm's default weights.
        family, year, paper: what it is and its arXiv id (or the DOI of an older paper); None outside the catalog.
        weights_license: of the default weights; None where there are none, or where it is not known.
        kwargs: handed to the constructor. A network with some has no default weights.
        surgery: what is changed in the network that `id` names; its default weights stay of use.
        takes: the operations that a document may ask for on top.
        is_equivariant: whether an image that is shifted by 32 pixels gives shifted maps, away from the border: a
            convolutional network with symmetric padding, without pooling over the whole image.
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
        """Whether the library may have weights of this very network."""
        return self.source in ("timm", "tv") and not self.kwargs
