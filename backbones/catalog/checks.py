"""What can be told of a backbone before it is built. Torch-free."""

from backbones.catalog.row import BackboneRow
from backbones.catalog.rows import CATALOG
from backbones.spec.surgery import SurgerySpec


def require_surgery(row: BackboneRow, surgery: SurgerySpec) -> None:
    """Raise a ValueError that says which networks take what `row` does not take of `surgery`, or which part of it the
    network has already."""
    for operation in surgery.asked:
        if operation not in row.takes:
            others = [name for name, other in CATALOG.items() if operation in other.takes]
            raise ValueError(
                f"surgery.{operation}: backbone {row.name!r} does not take it; choose one of {', '.join(others)}"
            )
    try:
        surgery.on_top_of(row.surgery)
    except ValueError as error:
        raise ValueError(f"surgery: backbone {row.name!r}: {error}") from error
