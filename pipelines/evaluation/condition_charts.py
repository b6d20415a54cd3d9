"""Charts of scores under corruptions and in slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.base.charts import legend_beside, new_figure, plain_text
from pipelines.base.quantities import quantity
from pipelines.evaluation.conditions import Result, corruption_rows, main_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipelines.spec.model import ModelSpec

MAX_BARS = 20
"""Slices of a column that a chart shows, the worst ones first."""


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
    figure, (axis,) = new_figure(1, width=5.4)
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
            f"{plain_text(row['value'])} ({quantity(row['tasks'][task]['num_images'], 'image')}): "
            f"{row['tasks'][task]['numbers'][metric]:.3f}",
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
    figure, axes = new_figure(len(columns), width=5.4, height=1.3 + 0.3 * max(len(bars) for _, bars in columns))
    for (column, bars), axis in zip(columns, axes, strict=True):
        labels, values = [label for label, _ in bars], [value for _, value in bars]
        axis.barh(range(len(bars)), values, 0.7, label="slice")
        if whole is not None:
            axis.axvline(whole, color="black", linestyle="--", linewidth=1, label="all images")
        axis.set_yticks(range(len(bars)), labels, fontsize="small")
        axis.set(title=f"{name} by {plain_text(column)}", xlabel=metric, xlim=(0, 1))
        axis.invert_yaxis()
        legend_beside(axis)
    return figure
