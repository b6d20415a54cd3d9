"""Scores under corruptions and in slices, as tables on the console and as metrics by name. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.tasks.kinds import kind_of

if TYPE_CHECKING:
    from pipelines.spec.model import ModelSpec

Result = Mapping[str, Any]


@dataclass(frozen=True)
class ConditionScores:
    """The entries of result.json about conditions, see `pipelines.spec.result.RunResult`."""

    corruptions: Sequence[Result] = ()
    slices: Sequence[Result] = ()


def main_metrics(model: ModelSpec) -> dict[str, str]:
    """Return by task the metric that tables, charts and MLflow have for each condition; result.json has all."""
    return {name: kind_of(spec).main_metric(spec) for name, spec in model.tasks.items()}


def condition_metrics(model: ModelSpec, result: Result) -> dict[str, float | None]:
    """Return `{"<split>/<task>/corruptions/<name>/<strength>/<metric>": value}`, and the same of slices as
    `<split>/<task>/slices/<column>/<value>/<metric>`, of a result.json."""
    metrics: dict[str, float | None] = {}
    split = result["split"]
    for name, metric in main_metrics(model).items():
        for row in result["corruptions"]:
            key = f"{split}/{name}/corruptions/{row['corruption']}/{row['strength']}/{metric}"
            metrics[key] = row["summary"][f"{split}/{name}/{metric}"]
        for column in result["slices"]:
            for row in column["values"]:
                key = f"{split}/{name}/slices/{column['column']}/{row['value']}/{metric}"
                metrics[key] = row["tasks"][name]["numbers"][metric]
    return metrics


def corruption_rows(name: str, metric: str, result: Result) -> dict[str, list[float | None]]:
    """Return by corruption the metric of a task on clean images and at strengths 1, 2 and 3."""
    key = f"{result['split']}/{name}/{metric}"
    rows: dict[str, list[float | None]] = {}
    for row in result["corruptions"]:
        rows.setdefault(row["corruption"], [result["summary"][key]]).append(row["summary"][key])
    return rows


def condition_tables(model: ModelSpec, result: Result) -> Iterator[tuple[str, list[str], list[list[Any]], str]]:
    """Yield the title, the columns, the rows and the caption of each table; undefined numbers are None."""
    for name, metric in main_metrics(model).items():
        if rows := corruption_rows(name, metric, result):
            title = f"{name} on corrupted images of {result['split']}: {metric}"
            yield title, ["corruption", "clean", "1", "2", "3"], [[kind, *row] for kind, row in rows.items()], ""
        for column in result["slices"]:
            worst = column["worst"][name]
            caption = f"worst: {worst['value']}, {metric} {worst['number']:.3f}" if worst else f"{metric} is undefined"
            yield (
                f"{name} on {result['split']} by {column['column']}",
                [column["column"], "images", metric],
                [
                    [row["value"], row["tasks"][name]["num_images"], row["tasks"][name]["numbers"][metric]]
                    for row in column["values"]
                ],
                caption,
            )
