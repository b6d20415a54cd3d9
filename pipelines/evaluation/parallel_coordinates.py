"""The parallel-coordinates plot of a sweep as a PNG file. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.base.charts import new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_TICKS = 12
MAX_LABEL = 24
"""Number of characters of a choice, which is written between two axes."""
NUM_TICKS = 5


def draw_coordinates(title: str, axes: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the plot as PNG.

    Args:
        title: above the plot.
        axes: with `name`, `log`, `ticks`, `low` and `high`; the last one is the metric, by which lines are colored.
        lines: with `values`, `is_best` and `is_feasible`.
    """
    # The API imports this module, and loads NumPy and matplotlib only when it draws.
    from matplotlib import colormaps

    from pipelines.evaluation.chart_files import png_of

    figure, (panel,) = new_figure(1, width=max(5.2, 1.9 * len(axes)))
    heights = [[_height(axis, value) for axis, value in zip(axes, line["values"], strict=True)] for line in lines]
    # The best line is drawn last, above the others.
    for line, ys in sorted(zip(lines, heights, strict=True), key=lambda pair: bool(pair[0]["is_best"])):
        color = "crimson" if line["is_best"] else colormaps["viridis"](ys[-1])
        style = "-" if line["is_feasible"] else ":"
        panel.plot(range(len(axes)), ys, style, color=color, linewidth=2.4 if line["is_best"] else 1.1, alpha=0.85)
    for position, axis in enumerate(axes):
        _draw_axis(panel, position, axis)
    panel.set_xticks(range(len(axes)), [plain_text(axis["name"]) for axis in axes], rotation=20, ha="right", fontsize=8)
    panel.set_yticks([])
    panel.set(xlim=(-0.2, len(axes) - 0.4), ylim=(-0.05, 1.05), title=plain_text(title))
    for side in ("left", "right", "top"):
        panel.spines[side].set_visible(False)
    return png_of(figure)


def _draw_axis(panel: Axes, position: int, axis: Mapping[str, Any]) -> None:
    panel.axvline(position, color="black", linewidth=0.8)
    for value, label in _ticks(axis):
        y = _height(axis, value)
        panel.plot([position, position + 0.03], [y, y], color="black", linewidth=0.8)
        ground = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}
        panel.text(position + 0.05, y, plain_text(label, MAX_LABEL), fontsize=7, va="center", bbox=ground)


def _ticks(axis: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Return values with their labels: choices, or numbers at even distances."""
    if axis["ticks"]:
        return [(float(k), label) for k, label in enumerate(axis["ticks"])][:MAX_TICKS]
    low, high = axis["low"], axis["high"]
    if low == high:
        return [(low, f"{low:.4g}")]
    shares = [k / (NUM_TICKS - 1) for k in range(NUM_TICKS)]
    if axis["log"]:
        values = [math.exp(math.log(low) + share * (math.log(high) - math.log(low))) for share in shares]
    else:
        values = [low + share * (high - low) for share in shares]
    return [(value, f"{value:.4g}") for value in values]


def _height(axis: Mapping[str, Any], value: float) -> float:
    """Return the place of a value on an axis, from 0 to 1."""
    low, high = axis["low"], axis["high"]
    if low == high:
        return 0.5
    if axis["log"]:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return float((value - low) / (high - low))
