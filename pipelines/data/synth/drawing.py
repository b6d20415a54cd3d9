"""Place drawn objects in an image, with their boxes. Torch-free.

Legend: H W size in pixels; all randomness comes from `rng`, so equal states give equal pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.floating]

MAX_COVERED = 0.5
"""The largest part of an object that later objects may cover."""


@dataclass(frozen=True)
class Patch:
    """An object before it has a place.

    Attributes:
        shape: name of its outline.
        texture: name of its texture.
        length: the longest side of the object in pixels.
        alpha: opacity (P, P) in each pixel of a square with the object in its center. Pixels up to 0.5, as in
            shadows, do not belong to the object.
        colors: (P, P, 3), 0 to 255.
    """

    shape: str
    texture: str
    length: float
    alpha: np.ndarray
    colors: np.ndarray


@dataclass(frozen=True)
class Style:
    """The appearance of a data set.

    Attributes:
        categories: names of the classes of boxes.
        category_of: returns the class of an object from its shape and its texture.
        grounds: names of the kinds of ground.
        draw_ground: returns float32 pixels (H, W, 3) of a kind of ground.
        num_objects: draws how many objects an image of a size gets, or fewer where they do not fit.
        draw_object: returns an object.
        overlapping: the share of objects that are placed beside another one, which they may cover partly.
        crowded_from: number of objects from which a scene is `crowded`.
    """

    categories: tuple[str, ...]
    category_of: Callable[[str, str], str]
    grounds: tuple[str, ...]
    draw_ground: Callable[[np.random.Generator, str, tuple[int, int]], np.ndarray]
    num_objects: Callable[[np.random.Generator, tuple[int, int]], int]
    draw_object: Callable[[np.random.Generator], Patch]
    overlapping: float
    crowded_from: int


@dataclass(frozen=True)
class DrawnObject:
    """One object. Its box in whole pixels includes covered parts; `visible` is the visible fraction of its area."""

    shape: str
    texture: str
    bbox_xywh: tuple[int, int, int, int]
    area: int
    visible: float


def draw_objects(rng: np.random.Generator, pixels_HW3: np.ndarray, num_objects: int, style: Style) -> list[DrawnObject]:
    """Draw up to `num_objects` objects into the pixels, later ones over earlier ones; return those that were placed.

    A share of the objects partly covers earlier ones; the others do not touch any object. An object may leave the image
    by a tenth of its side.
    """
    height, width = pixels_HW3.shape[:2]
    owner_HW = np.full((height, width), -1, dtype=np.int32)
    placed: list[tuple[str, str, tuple[int, int, int, int], int]] = []
    for _ in range(num_objects):
        patch = style.draw_object(rng)
        overlaps = bool(placed) and rng.random() < style.overlapping
        for _attempt in range(20):
            corner = _place(rng, patch, (height, width), placed[-1][2] if overlaps else None)
            if _paste(pixels_HW3, owner_HW, patch, corner, [item[3] for item in placed], overlaps):
                area = int((owner_HW == len(placed)).sum())
                placed.append((patch.shape, patch.texture, _extent(owner_HW == len(placed)), area))
                break
    return [
        DrawnObject(shape, texture, bbox, area, float((owner_HW == number).sum() / area))
        for number, (shape, texture, bbox, area) in enumerate(placed)
    ]


def _place(
    rng: np.random.Generator,
    patch: Patch,
    size_hw: tuple[int, int],
    neighbor_xywh: tuple[int, int, int, int] | None,
) -> tuple[int, int]:
    """Return the top left corner (y, x) of a patch: anywhere, or beside the center of a neighbor."""
    patch_side = patch.alpha.shape[0]
    margin = (patch_side - 0.8 * patch.length) / 2
    if neighbor_xywh is None:
        top, left = (rng.uniform(-margin, max(length - patch_side + margin, -margin + 1)) for length in size_hw)
        return int(top), int(left)
    x, y, width, height = neighbor_xywh
    angle = rng.uniform(0, 2 * np.pi)
    distance = 0.38 * (patch.length + max(width, height))
    center_y, center_x = y + height / 2 + distance * np.sin(angle), x + width / 2 + distance * np.cos(angle)
    return int(center_y - patch_side / 2), int(center_x - patch_side / 2)


def _paste(
    pixels_HW3: np.ndarray,
    owner_HW: np.ndarray,
    patch: Patch,
    corner_yx: tuple[int, int],
    areas: list[int],
    overlaps: bool,
) -> bool:
    """Blend the patch into the image and mark its pixels as owned; return False if it does not fit."""
    (height, width), (top, left), length = owner_HW.shape, corner_yx, patch.alpha.shape[0]
    y1, x1, y2, x2 = max(top, 0), max(left, 0), min(top + length, height), min(left + length, width)
    if y2 <= y1 or x2 <= x1:
        return False
    inside = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
    is_object = patch.alpha > 0.5
    if is_object[inside].sum() < 0.85 * is_object.sum():
        return False
    owners = owner_HW[y1:y2, x1:x2]
    if not overlaps and (owners >= 0).any():
        return False
    covered = owners[is_object[inside]]
    for number in np.unique(covered[covered >= 0]):
        still_visible = (owner_HW == number).sum() - (covered == number).sum()
        if still_visible < (1 - MAX_COVERED) * areas[number]:
            return False
    blend = patch.alpha[inside][..., None]
    pixels_HW3[y1:y2, x1:x2] = pixels_HW3[y1:y2, x1:x2] * (1 - blend) + patch.colors[inside] * blend
    owners[is_object[inside]] = len(areas)
    return True


def _extent(mask_HW: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def rotated(axis: Pixels, angle: float) -> tuple[Pixels, Pixels]:
    """Return the coordinates of the pixels of a square in a rotated system, from those along one side."""
    x, y = axis[None, :], axis[:, None]
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
