"""An explanation drawn on its image."""

import math

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipelines.base.pictures import draw_boxes
from pipelines.explanations.explain import Explanation

COLORS = "inferno"
"""Colors of small to large values; their brightness grows with the value."""
PEAK = 99.5
"""Percentile of the positive values that has the last color: a single pixel may be much larger than all others."""


def draw_explanation(image: Image.Image, explanation: Explanation) -> Image.Image:
    """Return a copy of the image in gray, with the positive values of the map as a glow, and the box.

    Args:
        image: as the predictor decoded it, in any size.
        explanation: of a prediction for it.
    """
    values = explanation.values
    if explanation.facts.method == "integrated_gradients":
        values = _smooth(values)  # gradients of single pixels alternate in sign
    levels = Image.fromarray((_relative(values) * 255).round().astype(np.uint8))
    levels = levels.resize(image.size, Image.Resampling.BILINEAR)
    palette = (colormaps[COLORS](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    glow = levels.copy()
    glow.putpalette(palette.tobytes())
    # Small values leave the image visible, and the largest ones cover most of it.
    opacity = levels.point([round(255 * 0.85 * (level / 255) ** 0.6) for level in range(256)])
    picture = Image.composite(glow.convert("RGB"), ImageOps.grayscale(image).convert("RGB"), opacity)
    facts = explanation.facts
    boxes = []
    if facts.bbox_xywh is not None:
        x, y, width, height = facts.bbox_xywh
        scale_x, scale_y = image.width / facts.image.width, image.height / facts.image.height
        boxes = [(x * scale_x, y * scale_y, (x + width) * scale_x, (y + height) * scale_y)]
    return draw_boxes(picture, boxes, [""] * len(boxes), caption=_caption(explanation), color=(0, 220, 255))


def _relative(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the positive values divided by a large one of them, in 0..1."""
    positive = values.clip(min=0)
    found = positive[positive > 0]
    return positive if not found.size else (positive / np.percentile(found, PEAK)).clip(max=1)


def _smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the map with a Gaussian over each pixel, whose standard deviation is 1.5 % of the longer side."""
    sigma = 0.015 * max(values.shape)
    offsets = np.arange(-round(3 * sigma), round(3 * sigma) + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in range(2):
        values = np.apply_along_axis(_weighted, axis, values, weights)
    return values


def _weighted(line: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.convolve(np.pad(line, len(weights) // 2), weights, mode="valid")


def _caption(explanation: Explanation) -> str:
    facts = explanation.facts
    if facts.label is None:
        return f"{facts.task}: similarity {facts.value:.2f}, {facts.method}"
    score = (1 + math.tanh(facts.value / 2)) / 2  # the sigmoid, which does not overflow
    return f"{facts.task}: {facts.label} {score:.2f}, {facts.method}"
