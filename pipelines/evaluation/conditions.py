"""Scores under corruptions and in slices, as tables on the console, charts, and metrics by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.base.quantities import quantity
from pipelines.tasks.kinds import kind_of
from pipelines.tasks.tensors.charts import legend_beside, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipelines.spec.model import ModelSpec

MAX_BARS = 20
"""Slices of a column that a chart shows, the worst ones first."""

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


def condition_charts(model: ModelSpec, result: Result) -> dict[str, Figure]:
    """Return the charts of a result.json by the names of their files, which are `<task>.<corruptions|slices>`."""
    charts = {}
    for name, metric in main_metrics(model).items():
        if rows := corruption_rows(name, metric, result):
            charts[f"{name}.corruptions"] = _corruption_chart(f"{name}: {metric}", metric, rows)
        columns = [(column["column"], shown) for column in result["slices"] if (shown := _bars(column, name, metric))]
        if columns:
            key = f"{result['split']}/{name}/{metric}"
            charts[f"{name}.slices"] = _slice_chart(name, metric, result["summary"][key], columns)
    return charts


def _corruption_chart(title: str, metric: str, rows: Mapping[str, Sequence[float | None]]) -> Figure:
    figure, (axis,) = new_figure(1, width=7.4)
    for kind, values in rows.items():
        points = [(strength, value) for strength, value in enumerate(values) if value is not None]
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, linewidth=1.4, label=kind)
    axis.set(title=f"{title} on corrupted images", xlabel="strength", ylabel=metric, xlim=(-0.1, 3.1), ylim=(0, 1.02))
    axis.set_xticks(range(4), ["clean", "1", "2", "3"])
    axis.grid(alpha=0.3)
    legend_beside(axis)
    return figure


def _bars(column: Mapping[str, Any], task: str, metric: str) -> list[tuple[str, float]]:
    """Return the label and the metric of the slices of a column where it is defined, the worst one first."""
    bars = [
        (
            f"{plain_text(row['value'])} ({quantity(row['tasks'][task]['num_images'], 'image')})",
            row["tasks"][task]["numbers"][metric],
        )
        for row in column["values"]
        if row["tasks"][task]["numbers"][metric] is not None
    ]
    return sorted(bars, key=lambda bar: bar[1])[:MAX_BARS]


def _slice_chart(
    name: str, metric: str, whole: float | None, columns: Sequence[tuple[str, Sequence[tuple[str, float]]]]
) -> Figure:
    """Return one panel of bars for each column, with a line at the number of the whole split."""
    figure, axes = new_figure(len(columns), width=7.4, height=1.3 + 0.3 * max(len(bars) for _, bars in columns))
    for (column, bars), axis in zip(columns, axes, strict=True):
        labels, values = [label for label, _ in bars], [value for _, value in bars]
        drawn = axis.barh(range(len(bars)), values, 0.7, label="slice")
        axis.bar_label(drawn, fmt="%.3f", fontsize="x-small", padding=2)
        if whole is not None:
            axis.axvline(whole, color="black", linestyle="--", linewidth=1, label="all images")
        axis.set_yticks(range(len(bars)), labels, fontsize="small")
        axis.set(title=f"{name} by {plain_text(column)}", xlabel=metric, xlim=(0, 1.08))
        axis.invert_yaxis()
        legend_beside(axis)
    return figure
