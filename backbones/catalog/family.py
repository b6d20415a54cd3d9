"""How the tables of rows are written: a paper, and below it one line a network."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from backbones.catalog.row import BackboneRow, Source
from backbones.spec.surgery import NO_SURGERY, Operation, SurgerySpec

BATCHNORM: tuple[Operation, ...] = ("freeze_batchnorm",)
"""What a network takes that has BatchNorm, and no blocks that are known."""

BLOCKS: tuple[Operation, ...] = ("attention", "freeze_batchnorm", "stochastic_depth")
"""What a network takes whose blocks are known."""

RESIDUAL_BLOCKS: tuple[Operation, ...] = (*BLOCKS, "deformable")
"""What a network takes whose blocks have one dense or grouped convolution of 3x3 cells."""


@dataclass(frozen=True)
class Family:
    """What networks of one paper have in common, as `BackboneRow` describes it."""

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
        """Return the rows by name; `ids` has what each network is called where it is built."""
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
