"""Charts of what a detector gets wrong: confusion, errors, curves over the score, sizes, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.base.charts import (
    MAX_CLASSES,
    bar_chart,
    legend_beside,
    matrix_chart,
    new_figure,
    plain_text,
    reliability_chart,
)
from pipelines.tasks.detection.schemas import BACKGROUND, CURVE_SCORES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = {"APs": "small (below 32²)", "APm": "medium", "APl": "large (above 96²)"}


def analysis_charts(title: str, result: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the charts of an entry in result.json by name; those without numbers are left out."""
    title = plain_text(title)
    charts: dict[str, Figure] = {}
    if confusion := result.get("confusion"):
        labels = [plain_text(row["label"]) for row in result["per_class"]]
        charts["confusion"] = matrix_chart(
            f"{title}: IoU {confusion['iou']}, best thresholds", confusion["counts"], [*labels, BACKGROUND]
        )
    if errors := result.get("errors"):
        charts["errors"] = error_chart(title, errors)
    if curves := result.get("at_score"):
        charts["scores"] = score_chart(title, curves)
    if rows := _rows_by_size(result["per_class"]):
        names = [f"{plain_text(row['label'])} ({row['num_boxes']})" for row in rows]
        columns = {name: [row[metric] for row in rows] for metric, name in SIZES.items()}
        charts["sizes"] = bar_chart(f"{title}: AP of small, medium and large boxes", names, columns)
    measured = result.get("calibration")
    if measured is not None and measured["ece"] is not None:
        charts["calibration"] = reliability_chart(title, measured, "score of a detection", "share that is right")
    return charts


def error_chart(title: str, errors: Mapping[str, Any]) -> Figure:
    """Return what each kind of error costs, with the number of errors of the kind."""
    figure, (axis,) = new_figure(1, width=6.0, height=3.6)
    names = list(errors["count"])
    costs = [errors["cost"][name] for name in names]
    bars = axis.barh(range(len(names)), costs, color="tab:red")
    axis.bar_label(bars, [f"{cost:.3f}" for cost in costs], fontsize="small", padding=3)
    labels = [f"{name.replace('_', ' ')} ({errors['count'][name]})" for name in names]
    axis.set_yticks(range(len(names)), labels, fontsize="small")
    axis.set(
        title=f"{title}: AP50 {errors['AP50']:.3f}, and what it would gain without the errors of one kind",
        xlabel="AP50",
        xlim=(min(0.0, *costs), max(0.02, *costs) * 1.15),
    )
    axis.invert_yaxis()
    axis.grid(alpha=0.3, axis="x")
    axis.set_axisbelow(True)
    return figure


def score_chart(title: str, curves: Mapping[str, Sequence[float | None]]) -> Figure:
    """Return precision, recall and F1 over the score above which detections are accepted."""
    figure, (axis,) = new_figure(1, width=6.0)
    for name, color in (("precision", "tab:blue"), ("recall", "tab:orange"), ("f1", "tab:green")):
        points = [(score, value) for score, value in zip(CURVE_SCORES, curves[name], strict=True) if value is not None]
        axis.plot(*zip(*points, strict=True), color=color, label=name.replace("f1", "F1"), marker=".", linewidth=1.4)
    axis.set(
        title=f"{title}: all classes, IoU 0.5",
        xlabel="score above which detections are accepted",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axis.grid(alpha=0.3)
    legend_beside(axis)
    return figure


def _rows_by_size(per_class: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the classes that have AP by size, those with most ground truth first."""
    rows = [row for row in per_class if any(row.get(metric) is not None for metric in SIZES)]
    return sorted(rows, key=lambda row: -row["num_boxes"])[:MAX_CLASSES]
