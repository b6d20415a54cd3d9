"""Tables and pages about data sets for the terminal."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipelines.base.clock import format_moment
from pipelines.spec.load import write_yaml
from service.client.facts import facts_table
from service.rest.dataset_schemas import DatasetSummary, DatasetView

MAX_CLASSES = 50


def datasets_table(versions: Iterable[DatasetSummary]) -> Table:
    """Return a table with a row for each version."""
    table = Table("data set", "status", "images", "size", "created", "by", box=SIMPLE_HEAD)
    for version in versions:
        images = "" if version.num_images is None else str(version.num_images)
        created = format_moment(version.created_at)
        cells = (version.reference, version.status, images, _size(version), created, version.created_by)
        table.add_row(*map(escape, cells))
    return table


def dataset_page(version: DatasetView) -> Group:
    """Return a page with the result of a version's check."""
    facts = {
        "data set": version.reference,
        "status": version.status,
        "message": version.message,
        "folder": version.folder,
        "format": version.format,
        "images": None if version.num_images is None else str(version.num_images),
        "splits": ", ".join(f"{count} {split}" for split, count in version.splits.items()),
        "size": _size(version),
        "findings": ", ".join(f"{count} {kind}" for kind, count in version.findings.items()),
    }
    parts: list[RenderableType] = [facts_table(facts), *(_classes_table(version) if version.tasks else [])]
    parts += [Text(f"problem: {problem}") for problem in version.problems]
    if version.document is not None:
        parts.append(Text(f"drafted document:\n{write_yaml(version.document)}"))
    return Group(*parts)


def _classes_table(version: DatasetView) -> list[RenderableType]:
    splits = list(version.splits)
    table = Table("task", "class", *splits, box=SIMPLE_HEAD)
    rows = [(task.task, row) for task in version.tasks for row in task.classes]
    for task, row in rows[:MAX_CLASSES]:
        table.add_row(escape(task), escape(row.name), *(str(row.num_labels.get(split, 0)) for split in splits))
    hidden = len(rows) - MAX_CLASSES
    return [table, *([Text(f"and {hidden} more classes, see the report")] if hidden > 0 else [])]


def _size(version: DatasetSummary) -> str:
    num_bytes = version.archive_bytes + version.files_bytes
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes else ""
