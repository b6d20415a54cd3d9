"""Confusion matrix, curves and calibration of a classification task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.base.charts import (
    MAX_CLASSES,
    legend_beside,
    matrix_chart,
    new_figure,
    plain_text,
    reliability_chart,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MAX_CURVES = 10
"""Number of classes whose curves are drawn, those with most images first."""

OUTCOMES = {"found": (1, 1), "missed": (1, 0), "false alarms": (0, 1)}
"""Places in the confusion matrix of a class that `label_outcomes` shows."""


def classification_charts(title: str, result: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the charts of an entry in result.json by name; those without numbers are left out."""
    rows = sorted((row for row in result["per_class"] if row["support"]), key=lambda row: -row["support"])
    if not rows:
        return {}
    charts = {}
    if result["confusion_matrix"] is not None:
        charts["confusion"] = confusion_chart(title, result)
    elif rows[0].get("confusion") is not None:
        charts["confusion"] = label_outcomes(title, rows[:MAX_CLASSES])
    drawn = [row for row in rows if row.get("precision_at_recall") is not None][:MAX_CURVES]
    if drawn:
        charts["precision_recall"] = _curves(title, drawn, "precision_at_recall", "ap", "AP")
        charts["precision_recall"].axes[0].set(xlabel="recall", ylabel="precision")
    drawn = [row for row in rows if row.get("recall_at_fpr") is not None][:MAX_CURVES]
    if drawn:
        charts["roc"] = _curves(title, drawn, "recall_at_fpr", "roc_auc", "AUC")
        charts["roc"].axes[0].set(xlabel="false-positive rate", ylabel="recall (true-positive rate)")
    measured = result.get("calibration")
    if measured is not None and measured["ece"] is not None:
        is_multiclass = rows[0].get("confusion") is None
        charts["calibration"] = reliability_chart(
            title,
            measured,
            "score of the predicted class" if is_multiclass else "score of a class",
            "share that is right" if is_multiclass else "share that has the class",
        )
    return charts


def _curves(title: str, rows: Sequence[Mapping[str, Any]], column: str, area: str, area_name: str) -> Figure:
    """Return one curve over [0, 1] for each class, with the area below it in the legend."""
    figure, (axis,) = new_figure(1, width=6.0)
    for row in rows:
        points = [position / (len(row[column]) - 1) for position in range(len(row[column]))]
        label = f"{plain_text(row['label'])} ({row['support']}), {area_name} {row[area]:.2f}"
        axis.plot(points, row[column], label=label, linewidth=1.2)
    axis.set(title=f"{title}: one class against all others", xlim=(0, 1), ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    legend_beside(axis)
    return figure


def label_outcomes(title: str, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the images with and without each class of a multilabel task, by what the model predicts at 0.5."""
    figure, (axis,) = new_figure(1, width=6.0, height=1.4 + 0.35 * len(rows))
    starts = [0] * len(rows)
    for (name, (truth, predicted)), color in zip(OUTCOMES.items(), ("tab:green", "tab:orange", "tab:red"), strict=True):
        counts = [row["confusion"][truth][predicted] for row in rows]
        bars = axis.barh(range(len(rows)), counts, left=starts, label=name, color=color)
        axis.bar_label(bars, [str(count) if count else "" for count in counts], label_type="center", fontsize="x-small")
        starts = [start + count for start, count in zip(starts, counts, strict=True)]
    axis.set_yticks(range(len(rows)), [plain_text(row["label"]) for row in rows], fontsize="small")
    axis.set(title=f"{title}: scores above 0.5", xlabel="images")
    axis.invert_yaxis()
    legend_beside(axis)
    return figure


def confusion_chart(title: str, result: Mapping[str, Any]) -> Figure:
    """Return the confusion matrix of an entry in result.json that has one."""
    labels = [plain_text(row["label"]) for row in result["per_class"]]
    return matrix_chart(title, result["confusion_matrix"], labels)
