"""Charts as PNG files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from pipelines.base.charts import add_margin
from pipelines.base.pictures import FAST_PNG
from pipelines.run_folder.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110
BORDER_PX = 12
"""White pixels around a chart."""
MAX_DRAWINGS = 4
"""Drawings of one chart: each has twice the margin of the one before, because something reached its edge."""


def png_of(figure: Figure) -> bytes:
    """Return a chart as a PNG file without the white space around it; `savefig` would draw every chart twice."""
    figure.set_dpi(DOTS_PER_INCH)
    drawn, box = _draw(figure)
    for _ in range(MAX_DRAWINGS - 1):
        if box is None or (min(box[:2]) > 0 and box[2] < drawn.width and box[3] < drawn.height):
            break
        add_margin(figure)
        drawn, box = _draw(figure)
    buffer = io.BytesIO()
    ImageOps.expand(drawn.crop(box), BORDER_PX, "white").save(buffer, "PNG", compress_level=FAST_PNG)
    return buffer.getvalue()


def write_picture(figure: Figure, path: Path) -> None:
    """Write a chart as a PNG file; raises OSError."""
    write_atomic(path, png_of(figure))


def _draw(figure: Figure) -> tuple[Image.Image, tuple[int, int, int, int] | None]:
    """Return the picture, and the left, upper, right and lower edge of what is not white; None if all is white."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    return drawn, ImageOps.invert(drawn).getbbox()
