"""Confusion matrix of a classification task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipelines.tasks.tensors.charts import MAX_CLASSES, new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_chart(title: str, result: Mapping[str, Any]) -> Figure:
    """Return the confusion matrix of an entry in result.json that has one."""
    counts, labels = result["confusion_matrix"], [plain_text(row["label"]) for row in result["per_class"]]
    side = min(14.0, 2.5 + 0.4 * len(labels))
    figure, (axis,) = new_figure(1, width=side + 1, height=side)
    # Colors are shares of the row, so that rare classes are visible too; the numbers are counts.
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    figure.colorbar(axis.imshow(shares, cmap="Blues", vmin=0, vmax=1), ax=axis, shrink=0.8)
    if len(labels) <= MAX_CLASSES:
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                color = "white" if shares[i][j] > 0.5 else "black"
                axis.text(j, i, str(count), ha="center", va="center", fontsize="x-small", color=color)
    axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize="small")
    axis.set_yticks(range(len(labels)), labels, fontsize="small")
    axis.set(title=title, xlabel="predicted", ylabel="true")
    return figure
