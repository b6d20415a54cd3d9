"""A compact notation for catalog rows: one `Family` per paper, one line per network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from backbones.catalog.row import BackboneRow, Source
from backbones.spec.surgery import NO_SURGERY, Operation, SurgerySpec

BATCHNORM: tuple[Operation, ...] = ("freeze_batchnorm",)
"""Operations supported by a network with BatchNorm whose blocks surgery does not know."""

BLOCKS: tuple[Operation, ...] = ("attention", "freeze_batchnorm", "stochastic_depth")
"""Operations supported by a network whose blocks surgery knows."""

RESIDUAL_BLOCKS: tuple[Operation, ...] = (*BLOCKS, "deformable")
"""Operations supported by a network whose blocks have a dense or grouped 3x3 convolution."""


@dataclass(frozen=True)
class Family:
    """The properties that the networks of one paper share; `BackboneRow` describes them."""

    family: str
    year: int
    paper: str
    source: Source
    weights_license: str | None
    takes: tuple[Operation, ...] = ()
    is_equivariant: bool = False
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    surgery: SurgerySpec = NO_SURGERY

    def rows(self, **ids: str) -> dict[str, BackboneRow]:
        """Return the rows by name; `ids` maps each name to the network's name in its source."""
        return {name: self._row(name, id) for name, id in ids.items()}

    def _row(self, name: str, id: str) -> BackboneRow:
        return BackboneRow(
            name,
            self.source,
            id,
            self.family,
            self.year,
            self.paper,
            self.weights_license,
            self.kwargs,
            self.surgery,
            frozenset(self.takes),
            self.is_equivariant,
        )
