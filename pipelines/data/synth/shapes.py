"""The style `shapes`: discs, squares, triangles and rings with textures, on a noisy ground. Torch-free."""

import colorsys

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipelines.data.synth.drawing import Patch, Pixels, Style, rotated

SHAPES = ("disc", "square", "triangle", "ring")
TEXTURES = ("plain", "stripes", "dots", "checker")
TEXTURE_SHARES = (0.4, 0.2, 0.2, 0.2)
SIDES_PX = ((20, 28), (32, 48), (56, 80))
"""Three scales."""

GROUNDS = {"desert": (196, 168, 120), "meadow": (96, 140, 84), "night": (44, 50, 78)}
"""Mean color by kind of ground."""

RING_HOLE = 0.5
"""Radius of a ring's hole, as a fraction of the ring's radius."""


def _draw_ground(rng: np.random.Generator, ground: str, size_hw: tuple[int, int]) -> np.ndarray:
    """Return float32 pixels (H, W, 3): a color with light from one side, noise, and strokes that are not objects."""
    height, width = size_hw
    color = np.array(GROUNDS[ground]) + rng.normal(0, 10, 3)
    slope_y, slope_x = rng.uniform(-25, 25, 2)
    light_HW = np.linspace(-slope_y, slope_y, height)[:, None] + np.linspace(-slope_x, slope_x, width)[None, :]
    pixels = color + light_HW[..., None] + rng.normal(0, 10, (height, width, 3))
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(2, 7)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        dx, dy = rng.normal(0, 25, 2)
        shade = tuple(int(part) for part in np.clip(color + rng.normal(0, 45, 3), 0, 255))
        if rng.random() < 0.5:
            pen.line((x, y, x + dx, y + dy), fill=shade, width=int(rng.integers(1, 4)))
        else:
            start = float(rng.uniform(0, 360))
            diameter = abs(dx) + 6
            pen.arc((x, y, x + diameter, y + diameter), start, start + float(rng.uniform(60, 150)), fill=shade, width=2)
    return np.asarray(picture, dtype=np.float32).copy()


def _num_objects(rng: np.random.Generator, size_hw: tuple[int, int]) -> int:
    return int(rng.integers(5, 9)) if rng.random() < 0.3 else int(rng.integers(1, 5))


def _draw_object(rng: np.random.Generator) -> Patch:
    shape, texture = str(rng.choice(SHAPES)), str(rng.choice(TEXTURES, p=TEXTURE_SHARES))
    side = float(rng.uniform(*SIDES_PX[rng.choice(3, p=(0.3, 0.45, 0.25))]))
    patch_side = int(np.ceil(side * 1.5)) + 2
    axis = np.arange(patch_side) + 0.5 - patch_side / 2
    turn = rng.uniform(-0.35, 0.35)
    alpha = np.clip(_inside_px(shape, side, *rotated(axis, turn)) + 0.5, 0, 1)
    u, v = rotated(axis, rng.uniform(0, np.pi))
    period = max(side / 3.5, 7.0)
    is_second = _is_second_color(texture, u / period, v / period)[..., None]
    hue, is_bright = rng.random(), rng.random() < 0.5
    first, second = (
        np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255
        for saturation, value in (((0.75, 0.95), (0.6, 0.3)) if is_bright else ((0.8, 0.45), (0.35, 1.0)))
    )
    colors = np.where(is_second, second, first) + rng.normal(0, 6, (patch_side, patch_side, 3))
    return Patch(shape, texture, side, alpha, colors)


def _inside_px(shape: str, side: float, x: Pixels, y: Pixels) -> Pixels:
    """Return the distance of each pixel to the edge of the object, positive inside."""
    half, radius = side / 2, np.hypot(x, y)
    if shape == "disc":
        return np.asarray(half - radius)
    if shape == "ring":
        return np.asarray(np.minimum(half - radius, radius - RING_HOLE * half))
    if shape == "square":
        return np.asarray(0.9 * half - np.maximum(np.abs(x), np.abs(y)))
    sides = [half / 2 - (np.cos(a) * x + np.sin(a) * y) for a in np.pi * np.array([1 / 2, 7 / 6, 11 / 6])]
    return np.asarray(np.minimum.reduce(sides) + side / 16)


def _is_second_color(texture: str, u: Pixels, v: Pixels) -> npt.NDArray[np.bool_]:
    """Return a mask of the second color of the texture; u and v are coordinates in periods."""
    if texture == "stripes":
        return np.asarray(np.floor(2 * u) % 2 == 0)
    if texture == "dots":
        return np.asarray(np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.3)
    if texture == "checker":
        return np.asarray((np.floor(1.5 * u) + np.floor(1.5 * v)) % 2 == 0)
    return np.zeros(u.shape, dtype=bool)


def _category_of(shape: str, texture: str) -> str:
    return f"patterned_{shape}" if texture != "plain" and shape in ("disc", "square") else shape


STYLE = Style(
    categories=("disc", "patterned_disc", "square", "patterned_square", "triangle", "ring"),
    category_of=_category_of,
    grounds=tuple(sorted(GROUNDS)),
    draw_ground=_draw_ground,
    num_objects=_num_objects,
    draw_object=_draw_object,
    overlapping=0.25,
    crowded_from=5,
)
