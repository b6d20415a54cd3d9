"""Charts as matplotlib figures, made without pyplot: no global state, no display. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.base.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CLASSES = 40
"""Number of classes that a chart shows, those with most ground truth first."""

MAX_NAME = 40
"""Number of characters of a name that a chart shows."""

MARGIN = 3.0
"""Inches around all panels for what is written beside them, which is enough unless names or legends are long."""
GAP = 1.2
"""Inches between two panels: the title of the lower one, and what is written at the axes of both."""


def new_figure(panels: int, width: float = 5.2, height: float = 4.0) -> tuple[Figure, list[Axes]]:
    """Return a figure with its panels below each other, and much space around them.

    The file of a chart lacks the space that stays white (`pipelines.evaluation.chart_files`). A layout of matplotlib
    would place the panels by the size of their texts, for which it measures all texts several times: half of the time
    of a chart.

    Args:
        width: of a panel, in inches.
        height: of a panel and the gap to the next one, in inches.
    """
    from matplotlib.figure import Figure

    full_width, full_height = width + 2 * MARGIN, height * panels + 2 * MARGIN
    figure = Figure(figsize=(full_width, full_height))
    left, panel_width, panel_height = MARGIN / full_width, width / full_width, (height - GAP) / full_height
    bottoms = [(MARGIN + GAP / 2 + height * (panels - 1 - position)) / full_height for position in range(panels)]
    return figure, [figure.add_axes((left, bottom, panel_width, panel_height)) for bottom in bottoms]


def add_margin(figure: Figure) -> None:
    """Double the size of a figure by space around it; the panels keep their size."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(2 * width, 2 * height)
    for axis in figure.axes:
        box = axis.get_position()
        axis.set_position((0.25 + box.x0 / 2, 0.25 + box.y0 / 2, box.width / 2, box.height / 2))


def plain_text(name: str, longest: int = MAX_NAME) -> str:
    """Return a name for a chart: without control characters, and not read as mathematics by matplotlib.

    A long name lacks its middle, so that it leaves space for what it names.
    """
    shown = printable(name)
    if len(shown) > longest:
        shown = f"{shown[: longest // 2]}...{shown[-longest // 2 + 3 :]}"
    return shown.replace("$", r"\$")


def legend_beside(axis: Axes) -> None:
    """Add a legend at the right of the panel, where it covers no data."""
    axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))


def bar_chart(title: str, labels: Sequence[str], columns: Mapping[str, Sequence[float | None]]) -> Figure:
    """Return horizontal bars in [0, 1], one for each label and column; a dash where there is no number."""
    # The numbers beside bars need 0.14 inches each.
    figure, (axis,) = new_figure(1, height=1.2 + max(0.3, 0.14 * len(columns)) * len(labels))
    thickness = 0.8 / len(columns)
    for position, (metric, values) in enumerate(columns.items()):
        offsets = [row + position * thickness for row in range(len(labels))]
        bars = axis.barh(offsets, [value or 0.0 for value in values], thickness, label=metric)
        texts = ["-" if value is None else f"{value:.2f}" for value in values]
        axis.bar_label(bars, texts, fontsize="x-small", padding=2)
    middle = thickness * (len(columns) - 1) / 2
    axis.set_yticks([row + middle for row in range(len(labels))], labels, fontsize="small")
    axis.set(title=f"{title} by class", xlim=(0, 1.08))
    axis.invert_yaxis()
    legend_beside(axis)
    return figure


def matrix_chart(title: str, counts: Sequence[Sequence[int]], labels: Sequence[str]) -> Figure:
    """Return a confusion matrix: row truth, column prediction. The numbers of up to `MAX_CLASSES` classes are shown."""
    side = min(14.0, 2.5 + 0.4 * len(labels))
    figure, (axis,) = new_figure(1, width=side, height=side + GAP)
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


def reliability_chart(title: str, calibration: Mapping[str, Any], confidence: str, accuracy: str) -> Figure:
    """Return the reliability diagram of `Calibration`, above the number of predictions in each bin.

    Args:
        title: name of the task.
        calibration: as in result.json, with at least one prediction.
        confidence: what the x axis shows, such as "score of the predicted class".
        accuracy: what the y axis shows, such as "share of images with this class".
    """
    figure, (upper, lower) = new_figure(2, width=5.4, height=3.6)
    bins, width = calibration["bins"], 1 / len(calibration["bins"])
    middles = [(position + 0.5) * width for position in range(len(bins))]
    shares = [row["accuracy"] or 0.0 for row in bins]
    upper.bar(middles, shares, 0.94 * width, color="tab:blue", label="measured")
    filled = [row for row in bins if row["count"]]
    upper.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="calibrated")
    upper.plot(
        [row["confidence"] for row in filled],
        [row["accuracy"] for row in filled],
        "o",
        color="tab:orange",
        markersize=4,
        label="mean score of the bin",
    )
    upper.set(title=f"{title}: expected calibration error {calibration['ece']:.3f}", ylabel=accuracy, ylim=(0, 1.02))
    lower.bar(middles, [row["count"] for row in bins], 0.94 * width, color="tab:gray")
    lower.set(xlabel=confidence, ylabel="number of predictions")
    for axis in (upper, lower):
        axis.set_xlim(0, 1)
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
    legend_beside(upper)
    return figure
