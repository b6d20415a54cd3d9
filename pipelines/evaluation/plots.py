"""Charts of a run as PNG files. Figures are made without pyplot: no global state, no display."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.evaluation.curves import Curves, read_curves
from pipelines.run_folder.events import read_events
from pipelines.run_folder.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CLASSES = 40
"""Classes that a chart shows, those with most ground truth first."""

MAX_PR_CURVES = 10
DOTS_PER_INCH = 110
HEADLINES = (
    *("AP", "AP50", "AP75", "accuracy", "macro_f1", "mAP", "top1_macro_recall"),
    *("recall_at_1", "r_precision", "map_at_r", "nmi"),
)
"""The metrics that the curves over the epochs show."""

LOSSES = "losses/train/"
"""What the names of losses begin with in progress events, whose `losses` are by `train/<task>/<term>`."""

GRADIENTS = {
    "gradients/norm/": "gradient of each task's loss at the last shared layer: norm",
    "gradients/cosine/": "gradients of two tasks' losses at the last shared layer: cosine",
}
"""What the names of gradient statistics begin with in metric events, and the titles of their panels."""

FACTORS = "learned factor of each task's loss"
ON_A_LOG_SCALE = ("training loss", GRADIENTS["gradients/norm/"], FACTORS)

Tasks = Mapping[str, Mapping[str, Any]]


def write_plots(folder: Path, events: Path, tasks: Tasks) -> list[Path]:
    """Write all charts that there is something to show in, and return their files.

    - losses.png and learning_rate.png: from progress events, metrics.png: from metric events, a panel a task;
    - gradients.png: norms and cosines of the tasks' gradients; balance.png: what was learned to weigh tasks by;
    - <task>.classes.png: AP (detection), F1 (classification) or recall at 1 (embedding) by class;
    - <task>.precision_recall.png: at IoU 0.5; <task>.confusion.png: of multiclass tasks.

    Args:
        folder: `plots/` of the run folder.
        events: events.jsonl; it may be absent.
        tasks: By task, as in result.json.
    """
    figures = _course(read_curves(read_events(events)) if events.exists() else {})
    for name, result in tasks.items():
        figures |= {f"{name}.{chart}": figure for chart, figure in _task(name, result).items()}
    paths = []
    for chart, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
        write_atomic(folder / f"{chart}.png", buffer.getvalue())
        paths.append(folder / f"{chart}.png")
    return paths


def _figure(panels: int, width: float = 6.4, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with its panels below each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height * panels), layout="constrained")
    return figure, [figure.add_subplot(panels, 1, position + 1) for position in range(panels)]


def _course(curves: Curves) -> dict[str, Figure]:
    losses = _below(LOSSES, curves)
    rates = {name: points for name, points in curves.items() if name.split("/")[0] == "lr"}
    panels: dict[str, Curves] = {}
    for name, points in curves.items():
        split, _, rest = name.partition("/")
        task, _, metric = rest.rpartition("/")
        if split == "val" and metric in HEADLINES:
            panels.setdefault(task, {})[metric] = points
    charts = {"losses": {"training loss": losses}, "learning_rate": {"learning rate": rates}, "metrics": panels}
    charts["gradients"] = {title: _below(prefix, curves) for prefix, title in GRADIENTS.items()}
    charts["balance"] = {FACTORS: _below("balance/", curves)}
    charts = {chart: {title: shown for title, shown in panels.items() if shown} for chart, panels in charts.items()}
    return {chart: _lines(shown) for chart, shown in charts.items() if shown}


def _below(prefix: str, curves: Curves) -> Curves:
    return {name.removeprefix(prefix): points for name, points in curves.items() if name.startswith(prefix)}


def _lines(panels: Mapping[str, Curves]) -> Figure:
    figure, axes = _figure(len(panels))
    for (title, curves), axis in zip(sorted(panels.items()), axes, strict=True):
        for name, points in sorted(curves.items()):
            marker = "." if len(points) < 30 else ""
            axis.plot(*zip(*points, strict=True), label=name, marker=marker, linewidth=1.2)
        axis.set(title=title, xlabel="step")
        if title in ON_A_LOG_SCALE and all(value > 0 for points in curves.values() for _, value in points):
            axis.set_yscale("log")
        if title == GRADIENTS["gradients/cosine/"]:
            axis.set_ylim(-1, 1)
        axis.grid(alpha=0.3)
        axis.legend(loc="upper right", fontsize="small", ncols=1 if len(curves) < 7 else 2)
    return figure


def _task(name: str, result: Mapping[str, Any]) -> dict[str, Figure]:
    count, label, metrics = {
        "detection": ("num_boxes", "label", ("AP", "AP50")),
        "classification": ("support", "label", ("f1", "ap")),
        "embedding": ("support", "identity", ("recall_at_1",)),
    }[result["kind"]]
    # sorted is stable: classes with equal counts keep the order of the categories.
    classes = sorted((row for row in result["per_class"] if row[count]), key=lambda row: -row[count])[:MAX_CLASSES]
    if not classes:
        return {}
    labels = [f"{_plain(row[label])} ({row[count]})" for row in classes]
    charts = {"classes": _bars(name, labels, {m: [row[m] or 0.0 for row in classes] for m in metrics})}
    if result["kind"] == "detection":
        charts["precision_recall"] = _precision_recall(name, classes[:MAX_PR_CURVES])
    if result["kind"] == "classification" and result["confusion_matrix"] is not None:
        charts["confusion"] = _confusion(name, result)
    return charts


def _plain(name: str) -> str:
    """Return a class name that matplotlib does not take for mathematics."""
    return name.replace("$", r"\$")


def _bars(title: str, labels: Sequence[str], columns: Mapping[str, Sequence[float]]) -> Figure:
    figure, (axis,) = _figure(1, height=1.2 + 0.3 * len(labels))
    thickness = 0.8 / len(columns)
    for position, (metric, values) in enumerate(columns.items()):
        offsets = [row + position * thickness for row in range(len(labels))]
        bars = axis.barh(offsets, values, thickness, label=metric)
        axis.bar_label(bars, fmt="%.2f", fontsize="x-small", padding=2)
    middle = thickness * (len(columns) - 1) / 2
    axis.set_yticks([row + middle for row in range(len(labels))], labels, fontsize="small")
    axis.set(title=f"{title} by class", xlim=(0, 1.08))
    axis.invert_yaxis()
    axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _precision_recall(title: str, classes: Sequence[Mapping[str, Any]]) -> Figure:
    figure, (axis,) = _figure(1)
    for row in classes:
        curve = row["precision_at_recall"]
        if curve is None:
            continue
        recall = [position / (len(curve) - 1) for position in range(len(curve))]
        axis.plot(recall, curve, label=f"{_plain(row['label'])} ({row['num_boxes']})", linewidth=1.2)
    axis.set(title=f"{title} at IoU 0.5", xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small", loc="lower left")
    return figure


def _confusion(title: str, result: Mapping[str, Any]) -> Figure:
    counts, labels = result["confusion_matrix"], [_plain(row["label"]) for row in result["per_class"]]
    side = min(14.0, 2.5 + 0.4 * len(labels))
    figure, (axis,) = _figure(1, width=side + 1, height=side)
    # Rows are shares, so that rare classes are seen as well; the cells tell the counts.
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
