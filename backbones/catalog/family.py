"""How the tables of rows are written: one call a paper, one line a network."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from backbones.catalog.row import BackboneRow, Source
from backbones.surgery.spec import NO_SURGERY, Operation, SurgerySpec

BATCHNORM: tuple[Operation, ...] = ("freeze_batchnorm",)
"""What a network takes that has BatchNorm, and no blocks that are known."""

BLOCKS: tuple[Operation, ...] = ("attention", "freeze_batchnorm", "stochastic_depth")
"""What a network takes whose blocks are known."""

RESIDUAL_BLOCKS: tuple[Operation, ...] = (*BLOCKS, "deformable")
"""What a network takes whose blocks have one dense or grouped convolution of 3x3 cells."""


def family(
    name: str,
    year: int,
    paper: str,
    source: Source,
    licence: str | None,
    *,
    takes: Iterable[Operation] = (),
    is_equivariant: bool = False,
    kwargs: Mapping[str, Any] = MappingProxyType({}),
    surgery: SurgerySpec = NO_SURGERY,
    **ids: str,
) -> dict[str, BackboneRow]:
    """Return the rows of one paper's networks, by name; `ids` has what each is called where it is built."""
    return {
        row_name: BackboneRow(
            row_name,
            source,
            id,
            name,
            year,
            paper,
            licence,
            kwargs=kwargs,
            surgery=surgery,
            takes=frozenset(takes),
            is_equivariant=is_equivariant,
        )
        for row_name, id in ids.items()
    }
