"""How the tables of rows are written: one call a paper, one line a network."""

from collections.abc import Iterable

from backbones.catalog.row import BackboneRow, Source
from backbones.surgery.spec import NO_SURGERY, Operation, SurgerySpec


def family(
    name: str,
    year: int,
    paper: str,
    source: Source,
    licence: str | None,
    *,
    takes: Iterable[Operation] = (),
    is_equivariant: bool = False,
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
            surgery=surgery,
            takes=frozenset(takes),
            is_equivariant=is_equivariant,
        )
        for row_name, id in ids.items()
    }
