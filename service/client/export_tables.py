"""The table of a version's exports for the terminal."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from pipelines.spec.export_summary import metric_text
from service.rest.export_schemas import ExportView


def exports_table(exports: Iterable[ExportView]) -> Table:
    """Return a table with a row for each export."""
    table = Table("export", "served", "one image", "times as fast", "size", "metrics (torch)", box=SIMPLE_HEAD)
    for export in exports:
        latency = export.result.latency
        metrics = "\n".join(
            f"{name} {metric_text(pair.variant)} ({metric_text(pair.torch)})"
            for name, pair in export.main_metrics.items()
        )
        cells = (
            export.name,
            "yes" if export.servable else f"no: {export.reason}",
            "" if latency is None else f"{latency.runtime_ms:.1f} ms",
            "" if export.speedup is None else f"{export.speedup:.1f}",
            f"{export.result.size_bytes / 1e6:.1f} MB",
            metrics,
        )
        table.add_row(*map(escape, cells))
    return table
