"""Which exports of a model compute it instead of torch. Torch-free."""

from collections.abc import Sequence

from pipelines.base.cpu_features import computes_bfloat16
from pipelines.spec.exported_variant import Result, VariantResult, fastest_first


def better_than_torch(exports: Sequence[Result]) -> list[Result]:
    """Return the exports that may be served and are faster than torch on this CPU, as far as this is known, the
    fastest first; they were measured on the machine that made them."""
    return [export for export in fastest_first(exports) if _is_faster(export)]


def _is_faster(export: VariantResult) -> bool:
    if export.precision == "bf16" and not computes_bfloat16():
        return False
    return export.latency is not None and export.latency.speedup > 1
