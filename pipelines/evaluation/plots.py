"""Charts of a run as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.base.charts import MAX_CLASSES, bar_chart, legend_beside, new_figure, plain_text
from pipelines.evaluation.chart_files import write_picture
from pipelines.evaluation.condition_charts import condition_charts
from pipelines.evaluation.curves import Curves, Points, epoch_ends, read_curves, smoothed
from pipelines.run_folder.events import read_events
from pipelines.tasks.kinds import KINDS
from pipelines.tasks.tensors.runtime import runtime_of_kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pipelines.spec.model import ModelSpec

LOSSES = "losses/train/"
"""Prefix of the names of losses in progress events, whose `losses` are named `train/<task>/<term>`."""

GRADIENTS = {
    "gradients/norm/": "gradient of each task's loss at the last shared layer: norm",
    "gradients/cosine/": "gradients of two tasks' losses at the last shared layer: cosine",
}
"""Prefixes of gradient statistics in metric events, and the titles of their panels."""

LOSS_TITLE = "training loss of single batches (faint) and their running mean"
MAX_EPOCH_TICKS = 12
FACTORS = "learned factor of each task's loss"
ON_A_LOG_SCALE = (LOSS_TITLE, GRADIENTS["gradients/norm/"], FACTORS)

Tasks = Mapping[str, Mapping[str, Any]]


def write_plots(folder: Path, events: Path, tasks: Tasks) -> list[Path]:
    """Write all charts that have something to show, and return their files.

    - losses.png and learning_rate.png: from progress events; metrics.png: from metric events, one panel per task.
      Validation only predicts: a loss would need a second pass with the assignment of targets, so none is drawn;
    - gradients.png: norms and cosines of the tasks' gradients; balance.png: the learned factors of the tasks' losses;
    - <task>.classes.png: numbers by class, and further charts that the kind of the task has.

    Args:
        folder: `plots/` of the run folder.
        events: events.jsonl; it may be absent.
        tasks: by task, as in result.json.
    """
    lines = list(read_events(events)) if events.exists() else []
    figures = _course(read_curves(lines), epoch_ends(lines))
    for name, result in tasks.items():
        figures |= {f"{name}.{chart}": figure for chart, figure in _task(name, result).items()}
    return _written(folder, figures)


def write_condition_plots(folder: Path, model: ModelSpec, result: Mapping[str, Any]) -> list[Path]:
    """Write <task>.corruptions.png and <task>.slices.png of a result.json that has them, and return the files."""
    return _written(folder, condition_charts(model, result))


def _written(folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    for chart, figure in figures.items():
        write_picture(figure, folder / f"{chart}.png")
    return [folder / f"{chart}.png" for chart in figures]


def _course(curves: Curves, ends: Mapping[int, int]) -> dict[str, Figure]:
    losses = _below(LOSSES, curves)
    rates = {name: points for name, points in curves.items() if name.split("/")[0] == "lr"}
    plotted = {metric for kind in KINDS.values() for metric in kind.plotted_metrics}
    panels: dict[str, Curves] = {}
    for name, points in curves.items():
        split, _, rest = name.partition("/")
        task, _, metric = rest.rpartition("/")
        if split == "val" and metric in plotted:
            panels.setdefault(task, {})[metric] = points
    charts = {"losses": {LOSS_TITLE: losses}, "learning_rate": {"learning rate": rates}, "metrics": panels}
    charts["gradients"] = {title: _below(prefix, curves) for prefix, title in GRADIENTS.items()}
    charts["balance"] = {FACTORS: _below("balance/", curves)}
    charts = {chart: {title: shown for title, shown in panels.items() if shown} for chart, panels in charts.items()}
    return {chart: _lines(shown, ends) for chart, shown in charts.items() if shown}


def _below(prefix: str, curves: Curves) -> Curves:
    return {name.removeprefix(prefix): points for name, points in curves.items() if name.startswith(prefix)}


def _lines(panels: Mapping[str, Curves], ends: Mapping[int, int]) -> Figure:
    figure, axes = new_figure(len(panels), width=6.0)
    for (title, curves), axis in zip(sorted(panels.items()), axes, strict=True):
        for name, points in sorted(curves.items()):
            if title == LOSS_TITLE:
                _draw_smoothed(axis, name, points)
            else:
                marker = "." if len(points) < 30 else ""
                axis.plot(*zip(*points, strict=True), label=name, marker=marker, linewidth=1.2)
        axis.set(title=title, xlabel="step")
        if title in ON_A_LOG_SCALE and all(value > 0 for points in curves.values() for _, value in points):
            axis.set_yscale("log")
        if title == GRADIENTS["gradients/cosine/"]:
            axis.set_ylim(-1, 1)
        axis.grid(alpha=0.3)
        legend_beside(axis)
        _draw_epochs(axis, ends)
    return figure


def _draw_smoothed(axis: Axes, name: str, points: Points) -> None:
    """Draw a line over faint raw values, which are losses of single batches and vary much."""
    steps, values = zip(*points, strict=True)
    (line,) = axis.plot(steps, smoothed(values), label=name, marker="." if len(points) < 30 else "", linewidth=1.4)
    axis.plot(steps, values, color=line.get_color(), linewidth=0.8, alpha=0.25)


def _draw_epochs(axis: Axes, ends: Mapping[int, int]) -> None:
    """Mark the last steps of at most `MAX_EPOCH_TICKS` epochs above the panel, counted from 1 as on the screen."""
    if not ends:
        return
    every = -(-len(ends) // MAX_EPOCH_TICKS)
    shown = [epoch for epoch in sorted(ends) if epoch % every == 0] or sorted(ends)
    above = axis.secondary_xaxis("top")
    above.set_xticks([ends[epoch] for epoch in shown], [str(epoch) for epoch in shown], fontsize="small")
    above.set_xlabel("end of epoch", fontsize="small")


def _task(name: str, result: Mapping[str, Any]) -> dict[str, Figure]:
    kind = KINDS[result["kind"]]
    label, count, *_ = kind.class_columns
    # sorted is stable: classes with equal counts keep the order of the categories.
    classes = sorted((row for row in result["per_class"] if row[count]), key=lambda row: -row[count])[:MAX_CLASSES]
    if not classes:
        return {}
    labels = [f"{plain_text(row[label])} ({row[count]})" for row in classes]
    columns = {metric: [row[metric] for row in classes] for metric in kind.plotted_class_columns}
    return {"classes": bar_chart(name, labels, columns), **runtime_of_kind(kind).charts(name, result)}
