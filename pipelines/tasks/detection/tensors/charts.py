"""Precision-recall curves of a detection task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.base.charts import legend_beside, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CURVES = 10


def precision_recall(title: str, classes: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the curves at IoU 0.5 of classes, given their entries in result.json; a dot marks the best threshold."""
    figure, (axis,) = new_figure(1, width=6.0)
    for row in classes:
        curve = row["precision_at_recall"]
        if curve is None:
            continue
        recall = [position / (len(curve) - 1) for position in range(len(curve))]
        (line,) = axis.plot(recall, curve, label=f"{plain_text(row['label'])} ({row['num_boxes']})", linewidth=1.2)
        if row.get("best_threshold") is not None and row["precision_at_best"] is not None:
            axis.plot(row["recall_at_best"], row["precision_at_best"], "o", color=line.get_color(), markersize=5)
            text, at = f"{row['best_threshold']:.2f}", (row["recall_at_best"], row["precision_at_best"])
            axis.annotate(text, at, xytext=(5, 4), textcoords="offset points", fontsize="x-small")
    axis.set(
        title=f"{title} at IoU 0.5; dots: best thresholds",
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axis.grid(alpha=0.3)
    legend_beside(axis)
    return figure
