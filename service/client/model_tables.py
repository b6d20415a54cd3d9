"""Tables and pages about models for the terminal."""

from collections.abc import Iterable
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipelines.base.clock import format_moment
from pipelines.base.quantities import quantity
from pipelines.spec.load import write_yaml
from service.client.facts import facts_table
from service.rest.model_schemas import ModelSummary, ModelView
from service.rest.model_version_schemas import ModelComparison, ModelVersionDetails, PromotionView

MAX_PROMOTIONS = 10


def models_table(models: Iterable[ModelSummary]) -> Table:
    """Return a table with a row for each model."""
    table = Table("name", "newest version", "aliases", box=SIMPLE_HEAD)
    for model in models:
        newest = "" if model.latest_version is None else str(model.latest_version)
        table.add_row(escape(model.name), newest, escape(_aliases(model.aliases)))
    return table


def model_page(model: ModelView, promotions: list[PromotionView]) -> Group:
    """Return a page with the versions of a model and the latest moves of its aliases."""
    table = Table("version", "aliases", "created", "job", "metrics on val", "size", box=SIMPLE_HEAD)
    for version in model.versions:
        metrics = ", ".join(f"{name.removeprefix('val/')} {value:.4g}" for name, value in version.val_metrics.items())
        size = "" if version.archive is None else f"{version.archive.size_bytes / 1e6:.1f} MB"
        cells = (
            str(version.version),
            ", ".join(version.aliases),
            format_moment(version.created_at),
            version.job_id or "",
        )
        table.add_row(*map(escape, cells), escape(metrics), size)
    parts: list[RenderableType] = [Text(model.name), table]
    if promotions:
        history = Table("alias", "from", "to", "by", "at", "reason", box=SIMPLE_HEAD)
        for move in promotions[:MAX_PROMOTIONS]:
            versions = ("" if number is None else str(number) for number in (move.from_version, move.to_version))
            history.add_row(*map(escape, (move.alias, *versions, move.by, format_moment(move.at), move.reason)))
        parts.append(history)
    return Group(*parts)


def version_page(version: ModelVersionDetails) -> Group:
    """Return a page with the origin of a version."""
    facts = {
        "model": version.name,
        "version": str(version.version),
        "aliases": ", ".join(version.aliases),
        "created": format_moment(version.created_at),
        "job": version.job_id,
        "MLflow run": version.run_id,
        "data set": version.dataset,
        "start weights": version.start_weights,
        "select": version.select,
        "promotion": _promotion(version),
        "SHA-256": version.archive.sha256 if version.archive else None,
    }
    metrics = Table("metric", "value", box=SIMPLE_HEAD)
    for name, number in version.val_metrics.items():
        metrics.add_row(escape(name), f"{number:.6g}")
    document = "\n".join(f"  {line}" for line in write_yaml(version.document).splitlines())
    return Group(facts_table(facts), metrics, Text(f"document:\n{document}"))


def comparison_page(compared: ModelComparison) -> Group:
    """Return a page with two versions side by side."""
    first, second = f"version {compared.first}", f"version {compared.second}"
    metrics = Table("metric", first, second, "difference", box=SIMPLE_HEAD)
    for row in compared.metrics:
        numbers = ("" if number is None else f"{number:.6g}" for number in (row.first, row.second))
        metrics.add_row(escape(row.name), *numbers, "" if row.difference is None else f"{row.difference:+.6g}")
    parts: list[RenderableType] = [metrics]
    if not compared.is_comparable:
        parts.append(Text("The metrics were computed on different val data, or it is not known on which."))
    fields = Table("field of the document", first, second, box=SIMPLE_HEAD)
    for field in compared.document:
        fields.add_row(escape(field.field), escape(_value(field.first)), escape(_value(field.second)))
    parts.append(fields if compared.document else Text("The documents are equal."))
    return Group(*parts)


def deletion_question(name: str, number: int | None, model: ModelView) -> str:
    """Return the question to answer before something is deleted."""
    if number is not None:
        return f"Delete version {number} of {name} with its files?"
    return f"Delete {name} with {quantity(len(model.versions), 'version')} and all files?"


def _promotion(version: ModelVersionDetails) -> str | None:
    """Return the decision of the run in words; None for versions of older programs."""
    found = version.promotion
    if found is None:
        return None
    text = f"{'promoted' if found.is_promoted else 'not promoted'} ({found.reason}; rule: {found.promote_if})"
    if found.low is not None and found.high is not None:
        text += f", 95 % interval of the difference {found.low:+.4g} to {found.high:+.4g}"
    return text


def _aliases(aliases: dict[str, int]) -> str:
    return ", ".join(f"{alias}: {version}" for alias, version in sorted(aliases.items()))


def _value(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
