"""The style `grains`: crowds of small, elongated objects with shadows on a photograph-like ground. Torch-free."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.data.synth.drawing import Patch, Pixels, Style, rotated

ASPECTS = {"grain": (1.8, 2.8), "bean": (1.7, 2.3), "stick": (4.0, 7.0)}
"""Length by width of each shape."""

LENGTHS_PX = {"grain": (12, 30), "bean": (16, 34), "stick": (22, 48)}
TEXTURES = ("plain", "speckles", "stripes")
COLORS = ((206, 174, 112), (162, 118, 70), (112, 82, 54), (222, 208, 178), (138, 132, 92))

GROUNDS = {
    "moss": ((62, 78, 38), (126, 132, 70)),
    "sand": ((150, 128, 98), (206, 186, 150)),
    "soil": ((52, 42, 34), (122, 98, 74)),
}
"""The darkest and the brightest color by kind of ground."""

COARSEST_CELLS = 3
"""Cells along the longer side of the image in the coarsest layer of the ground's noise."""

SHADOW, SHADOW_PX, SHADOW_COLOR = 0.45, (2, 1), 20.0
"""Opacity of shadows, how far down and to the right they fall, and their gray."""

PEBBLES_PER_PX = 1 / 900
"""Number of pebbles in an area."""

PX_PER_OBJECT = (600, 2500)
"""Area of the image for each object, in the most and the least crowded images."""


def _draw_ground(rng: np.random.Generator, ground: str, size_hw: tuple[int, int]) -> np.ndarray:
    """Return noise of all scales between two colors, with pebbles, which are round and not objects."""
    height, width = size_hw
    share_HW = 1 / (1 + np.exp(-1.3 * _noise(rng, size_hw)))
    for _ in range(int(height * width * PEBBLES_PER_PX)):
        y, x, radius = int(rng.integers(height)), int(rng.integers(width)), rng.uniform(1.5, 5)
        top, left = max(y - 6, 0), max(x - 6, 0)
        area = share_HW[top : y + 7, left : x + 7]
        rows, columns = np.arange(area.shape[0])[:, None] + top, np.arange(area.shape[1])[None, :] + left
        area += rng.uniform(-0.4, 0.5) * np.clip(radius - np.hypot(rows - y, columns - x) + 0.5, 0, 1)
    dark, bright = (np.array(color) + rng.normal(0, 8, 3) for color in GROUNDS[ground])
    light_W3 = 1 + rng.uniform(-0.2, 0.2) * np.linspace(-1, 1, width)[:, None]
    return np.asarray((dark + np.clip(share_HW, 0, 1)[..., None] * (bright - dark)) * light_W3, dtype=np.float32)


def _noise(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """Return the sum of smooth noise of ever finer scales, (H, W)."""
    height, width = size_hw
    noise_HW = np.zeros(size_hw, dtype=np.float32)
    cells, strength = COARSEST_CELLS, 1.0
    while cells <= max(size_hw):
        layer = rng.normal(0, strength, (-(-cells * height // width) + 1, cells + 1)).astype(np.float32)
        noise_HW += np.asarray(Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC))
        cells, strength = 2 * cells, 0.72 * strength
    return noise_HW


def _num_objects(rng: np.random.Generator, size_hw: tuple[int, int]) -> int:
    return round(size_hw[0] * size_hw[1] / rng.uniform(*PX_PER_OBJECT))


def _draw_object(rng: np.random.Generator) -> Patch:
    shape, texture = str(rng.choice(sorted(ASPECTS))), str(rng.choice(TEXTURES))
    length = float(rng.uniform(*LENGTHS_PX[shape]))
    width = length / float(rng.uniform(*ASPECTS[shape]))
    side = int(np.ceil(1.3 * length)) + 6
    u, v = rotated(np.arange(side) + 0.5 - side / 2, float(rng.uniform(0, 2 * np.pi)))
    if shape == "bean":
        v = v + 0.6 * width * ((2 * u / length) ** 2 - 0.4)
    alpha = np.clip(_inside_px(shape, u, v, length, width) + 0.5, 0, 1)
    color = np.array(COLORS[rng.integers(len(COLORS))]) + rng.normal(0, 10, 3)
    # The middle of a round object is brighter than its edges.
    brightness = 0.6 + 0.5 * np.sqrt(np.clip(1 - (2 * v / width) ** 2, 0, 1))
    brightness = brightness * np.where(_is_dark(rng, texture, u, v, width), 0.55, 1)
    colors = color * brightness[..., None] + rng.normal(0, 6, (side, side, 3))
    shaded = np.minimum(alpha + (1 - alpha) * SHADOW * np.roll(alpha, SHADOW_PX, (0, 1)), 0.5)
    colors = np.where(alpha[..., None] > 0.25, colors, SHADOW_COLOR)
    return Patch(shape, texture, length, np.where(alpha > 0.5, alpha, shaded), colors)


def _inside_px(shape: str, u: Pixels, v: Pixels, length: float, width: float) -> Pixels:
    """Return about the distance of each pixel to the edge of the object, positive inside."""
    if shape == "stick":
        return np.asarray(np.minimum(length / 2 - np.abs(u), width / 2 - np.abs(v)))
    return np.asarray((1 - np.hypot(2 * u / length, 2 * v / width)) * width / 2)


def _is_dark(rng: np.random.Generator, texture: str, u: Pixels, v: Pixels, width: float) -> npt.NDArray[np.bool_]:
    """Return a mask of the darker color of the texture."""
    if texture == "stripes":
        return np.asarray(np.floor(2 * u / max(0.7 * width, 5)) % 2 == 0)
    if texture == "speckles":
        return np.asarray(rng.random(u.shape) < 0.2)
    return np.zeros(u.shape, dtype=bool)


def _category_of(shape: str, texture: str) -> str:
    return "striped_grain" if (shape, texture) == ("grain", "stripes") else shape


STYLE = Style(
    categories=("grain", "striped_grain", "bean", "stick"),
    category_of=_category_of,
    grounds=tuple(sorted(GROUNDS)),
    draw_ground=_draw_ground,
    num_objects=_num_objects,
    draw_object=_draw_object,
    overlapping=0.6,
    crowded_from=25,
)
