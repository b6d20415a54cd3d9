"""The data report as tables for a terminal. Torch-free."""

from rich.markup import escape
from rich.table import Table

from pipelines.base.causes import causes_of
from pipelines.base.console import kept_text, plain_console
from pipelines.base.findings import KINDS
from pipelines.base.printable import printable, shortened
from pipelines.base.quantities import quantity
from pipelines.data.dataset.checks.report import DataReport
from pipelines.data.dataset.clean import LayerCounts

WIDTH = 120
_SKIPPED = ("degenerate", "outside", "dropped", "repeated", "skipped_image")
_PARTS_OF_KEPT = ("clipped", "duplicate", "crowd", "difficult")
_REFUSED = ("unknown_category", "unknown_image", "broken_entry", "unsupported_shape", "unusable_image")


def render_report(report: DataReport, max_causes: int = 5) -> str:
    """Return all tables, then the findings, errors first: a line for each of at most `max_causes` causes of a kind."""
    console = plain_console(WIDTH)
    console.print(f"Data in {escape(report.root)}", soft_wrap=True)
    console.print(_images_table(report))
    for name in sorted(report.tasks):
        console.print(_task_table(report, name))
    console.print(_layers_table(report.layers))
    for kind, findings in report.by_kind().items():
        title = f"{findings[0].severity}: {KINDS[kind].title}: {len(findings)}"
        console.print(title, markup=False, soft_wrap=True)
        causes = causes_of(findings)
        for cause in causes[:max_causes]:
            place = " ".join(part for part in (cause.findings[0].source, cause.findings[0].split) if part)
            line = f"{place}: {cause.describe()}" if place else cause.describe()
            console.print(f"  {line}", markup=False, soft_wrap=True)
        if num_others := sum(len(cause.findings) for cause in causes[max_causes:]):
            console.print(f"  and {num_others} more in the written report")
    if report.skipped:
        console.print(
            f"{quantity(len(report.skipped), 'skipped image')} (data.on_error: skip); the written report lists all"
        )
    console.print(f"{quantity(len(report.errors), 'error')}, {quantity(len(report.warnings), 'warning')}")
    return kept_text(console)


def _images_table(report: DataReport) -> Table:
    table = _table("images", "", *report.splits)
    labels = ["listed", "in_index", "unlabeled", "unusable", *(["skipped"] if report.skipped else [])]
    for label in labels:
        counts = [str(getattr(report.images[split], label)) for split in report.splits]
        table.add_row({"in_index": "used"}.get(label, label), *counts)
    return table


def _task_table(report: DataReport, name: str) -> Table:
    task = report.tasks[name]
    table = _table(f"{name}: {task.kind}", "id", "", *report.splits)
    for label, counter in (
        ("labeled images", task.labeled),
        ("unlabeled images", task.unlabeled),
        ("images without an object or class", task.empty),
        ("crowd regions", task.crowd),
        ("boxes without identity", task.without_identity),
    ):
        if any(counter.values()) or counter is task.labeled:
            table.add_row("", label, *(str(counter[split]) for split in report.splits))
    table.add_section()
    for class_name, counter in task.rows():
        category_id = task.ids.get(class_name)
        shown_id = "" if category_id is None else str(category_id)
        name = escape(printable(shortened(class_name)))
        table.add_row(shown_id, name, *(str(counter[split]) for split in report.splits))
    return table


def _layers_table(layers: list[LayerCounts]) -> Table:
    """Return the counts of all layers, without the columns that are zero everywhere."""
    counts = [
        {
            **{column: getattr(layer, column) for column in (*_SKIPPED, *_PARTS_OF_KEPT)},
            "refused": sum(getattr(layer, part) for part in _REFUSED),
        }
        for layer in layers
    ]
    columns = [column for column in (*_SKIPPED, "refused", *_PARTS_OF_KEPT) if any(row[column] for row in counts)]
    table = _table("annotations: read = kept + skipped", "layer", "split", "read", "kept", *columns)
    for layer, row in zip(layers, counts, strict=True):
        name = escape(f"{layer.source}: {shortened(layer.file)}")
        numbers = (layer.read, layer.kept, *(row[column] for column in columns))
        table.add_row(name, layer.split, *map(str, numbers))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for position, column in enumerate(columns):
        is_number = position > 0 and column not in ("", "split")
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    return table
