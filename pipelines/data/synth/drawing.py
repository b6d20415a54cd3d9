"""Draw the images of the demo data: shapes with textures on a noisy ground. Torch-free.

Legend: H W size in pixels; all randomness comes from `rng`, so equal states give equal pixels.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Pixels = npt.NDArray[np.floating]

SHAPES = ("disc", "square", "triangle", "ring")
TEXTURES = ("plain", "stripes", "dots", "checker")
TEXTURE_SHARES = (0.4, 0.2, 0.2, 0.2)
SIDES_PX = ((20, 28), (32, 48), (56, 80))
"""Three scales."""

GROUNDS = {"desert": (196, 168, 120), "meadow": (96, 140, 84), "night": (44, 50, 78)}
"""Mean color by kind of ground."""

RING_HOLE = 0.5
"""Radius of a ring's hole, as a fraction of the ring's radius."""

MAX_COVERED = 0.5
"""The largest part of an object that later objects may cover."""


@dataclass(frozen=True)
class DrawnObject:
    """One object. Its box in whole pixels includes covered parts; `visible` is the visible fraction of its area."""

    shape: str
    texture: str
    bbox_xywh: tuple[int, int, int, int]
    area: int
    visible: float


def draw_ground(rng: np.random.Generator, ground: str, size_hw: tuple[int, int]) -> np.ndarray:
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


def draw_objects(rng: np.random.Generator, pixels_HW3: np.ndarray, num_objects: int) -> list[DrawnObject]:
    """Draw up to `num_objects` objects into the pixels, later ones over earlier ones; return those that were placed.

    Every fourth object partly covers an earlier one; the others do not touch any object. An object may leave the image
    by a tenth of its side.
    """
    height, width = pixels_HW3.shape[:2]
    owner_HW = np.full((height, width), -1, dtype=np.int32)
    placed: list[tuple[str, str, tuple[int, int, int, int], int]] = []
    for _ in range(num_objects):
        shape, texture = str(rng.choice(SHAPES)), str(rng.choice(TEXTURES, p=TEXTURE_SHARES))
        side = float(rng.uniform(*SIDES_PX[rng.choice(3, p=(0.3, 0.45, 0.25))]))
        alpha, colors = _draw_patch(rng, shape, texture, side)
        overlaps = bool(placed) and rng.random() < 0.25
        for _attempt in range(20):
            box = _place(rng, side, alpha.shape[0], (height, width), placed[-1][2] if overlaps else None)
            if _paste(pixels_HW3, owner_HW, alpha, colors, box, [item[3] for item in placed], overlaps):
                area = int((owner_HW == len(placed)).sum())
                placed.append((shape, texture, _extent(owner_HW == len(placed)), area))
                break
    return [
        DrawnObject(shape, texture, bbox, area, float((owner_HW == number).sum() / area))
        for number, (shape, texture, bbox, area) in enumerate(placed)
    ]


def _place(
    rng: np.random.Generator,
    side: float,
    patch_side: int,
    size_hw: tuple[int, int],
    neighbor_xywh: tuple[int, int, int, int] | None,
) -> tuple[int, int]:
    """Return the top left corner (y, x) of a patch: anywhere, or beside the center of a neighbor."""
    margin = (patch_side - 0.8 * side) / 2
    if neighbor_xywh is None:
        top, left = (rng.uniform(-margin, max(length - patch_side + margin, -margin + 1)) for length in size_hw)
        return int(top), int(left)
    x, y, width, height = neighbor_xywh
    angle = rng.uniform(0, 2 * np.pi)
    distance = 0.38 * (side + max(width, height))
    center_y, center_x = y + height / 2 + distance * np.sin(angle), x + width / 2 + distance * np.cos(angle)
    return int(center_y - patch_side / 2), int(center_x - patch_side / 2)


def _paste(
    pixels_HW3: np.ndarray,
    owner_HW: np.ndarray,
    alpha: np.ndarray,
    colors: np.ndarray,
    corner_yx: tuple[int, int],
    areas: list[int],
    overlaps: bool,
) -> bool:
    """Blend the patch into the image and mark its pixels as owned; return False if it does not fit."""
    (height, width), (top, left), length = owner_HW.shape, corner_yx, alpha.shape[0]
    y1, x1, y2, x2 = max(top, 0), max(left, 0), min(top + length, height), min(left + length, width)
    if y2 <= y1 or x2 <= x1:
        return False
    inside = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
    is_object = alpha > 0.5
    if is_object[inside].sum() < 0.85 * is_object.sum():
        return False
    owners = owner_HW[y1:y2, x1:x2]
    if not overlaps and (owners >= 0).any():
        return False
    covered = owners[is_object[inside]]
    for number, area in enumerate(areas):
        still_visible = (owner_HW == number).sum() - (covered == number).sum()
        if still_visible < (1 - MAX_COVERED) * area:
            return False
    blend = alpha[inside][..., None]
    pixels_HW3[y1:y2, x1:x2] = pixels_HW3[y1:y2, x1:x2] * (1 - blend) + colors[inside] * blend
    owners[is_object[inside]] = len(areas)
    return True


def _extent(mask_HW: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def _draw_patch(rng: np.random.Generator, shape: str, texture: str, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the opacity (P, P) of the object in each pixel of a square patch, and the colors (P, P, 3)."""
    patch_side = int(np.ceil(side * 1.5)) + 2
    axis = np.arange(patch_side) + 0.5 - patch_side / 2
    turn = rng.uniform(-0.35, 0.35)
    alpha = np.clip(_inside_px(shape, side, *_rotated(axis, turn)) + 0.5, 0, 1)
    u, v = _rotated(axis, rng.uniform(0, np.pi))
    period = max(side / 3.5, 7.0)
    is_second = _is_second_color(texture, u / period, v / period)[..., None]
    hue, is_bright = rng.random(), rng.random() < 0.5
    first, second = (
        np.array(colorsys.hsv_to_rgb(hue, saturation, value)) * 255
        for saturation, value in (((0.75, 0.95), (0.6, 0.3)) if is_bright else ((0.8, 0.45), (0.35, 1.0)))
    )
    colors = np.where(is_second, second, first) + rng.normal(0, 6, (patch_side, patch_side, 3))
    return alpha, colors


def _rotated(axis: Pixels, angle: float) -> tuple[Pixels, Pixels]:
    x, y = axis[None, :], axis[:, None]
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


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
