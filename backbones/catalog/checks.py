"""Checks of a backbone's settings before it is built. Torch-free."""

from backbones.catalog.row import BackboneRow
from backbones.catalog.rows import CATALOG
from backbones.spec.surgery import SurgerySpec


def require_surgery(row: BackboneRow, surgery: SurgerySpec) -> None:
    """Raise a ValueError if the network does not support an operation of `surgery`, or already contains it.

    The message lists the networks that support the operation.
    """
    for operation in surgery.requested:
        if operation not in row.takes:
            others = [name for name, other in CATALOG.items() if operation in other.takes]
            raise ValueError(
                f"surgery.{operation}: not supported by backbone {row.name!r}; choose one of {', '.join(others)}"
            )
    try:
        surgery.on_top_of(row.surgery)
    except ValueError as error:
        raise ValueError(f"surgery: backbone {row.name!r}: {error}") from error
