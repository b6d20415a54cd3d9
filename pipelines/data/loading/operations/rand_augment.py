"""RandAugment: several random changes of one strength (Cubuk et al. 2020, arXiv 1909.13719).

The changes and their ranges are those of AutoAugment (Cubuk et al. 2018, arXiv 1805.09501, appendix), which the paper
uses. One deviation: changes of geometry are applied before the others, so that pixels are interpolated once.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from torchvision.transforms.v2 import functional as F

from pipelines.data.loading.affine import Affine, Matrix, rotation_and_shear
from pipelines.data.loading.color import color_matrix
from pipelines.data.loading.planned_sample import PlannedSample, SampleSource
from pipelines.spec.operations.rand_augment import RandAugmentSpec

MAX_MAGNITUDE = 10.0
MAX_ANGLE_DEG = 30.0
MAX_SHEAR = 0.3
"""Shift per pixel of distance from the center."""

MAX_SHIFT = 0.45
"""Share of the image's side."""

MAX_COLOR_CHANGE = 0.9
MAX_LOST_BITS = 4

Move = Callable[[float], tuple[Matrix, tuple[float, float]]]
"""From a signed strength in [-1, 1] to a matrix (2, 2), and shifts as shares of the image's width and height."""

Repaint = Callable[[PlannedSample, float], PlannedSample]
"""From a sample and a signed strength in [-1, 1] to a sample."""


def _shear(strength: float, *, is_vertical: bool) -> tuple[Matrix, tuple[float, float]]:
    matrix = np.eye(2)
    matrix[int(is_vertical), int(not is_vertical)] = MAX_SHEAR * strength
    return matrix, (0.0, 0.0)


MOVES: tuple[Move, ...] = (
    lambda strength: (rotation_and_shear(MAX_ANGLE_DEG * strength, 0.0, 1.0), (0.0, 0.0)),
    partial(_shear, is_vertical=False),
    partial(_shear, is_vertical=True),
    lambda strength: (np.eye(2), (MAX_SHIFT * strength, 0.0)),
    lambda strength: (np.eye(2), (0.0, MAX_SHIFT * strength)),
)
"""Rotation, two shears, two shifts."""


def _recolored(sample: PlannedSample, strength: float, *, what: str) -> PlannedSample:
    factors = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0} | {what: 1 + MAX_COLOR_CHANGE * strength}
    return sample.recolored(color_matrix(**factors, gains=np.ones(3)))


def _solarized(sample: PlannedSample, strength: float) -> PlannedSample:
    return sample.repainted(lambda image: F.solarize(image, 256 * (1 - abs(strength))))


def _posterized(sample: PlannedSample, strength: float) -> PlannedSample:
    return sample.repainted(lambda image: F.posterize(image, 8 - round(MAX_LOST_BITS * abs(strength))))


def _sharpened(sample: PlannedSample, strength: float) -> PlannedSample:
    return sample.repainted(lambda image: F.adjust_sharpness(image, 1 + MAX_COLOR_CHANGE * strength))


REPAINTS: tuple[Repaint, ...] = (
    lambda sample, strength: sample,
    lambda sample, strength: sample.repainted(F.autocontrast),
    lambda sample, strength: sample.repainted(F.equalize),
    partial(_recolored, what="brightness"),
    partial(_recolored, what="contrast"),
    partial(_recolored, what="saturation"),
    _solarized,
    _posterized,
    _sharpened,
)
"""No change, and eight changes of colors."""


def apply_random_changes(
    spec: RandAugmentSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource
) -> PlannedSample:
    """Apply `num_ops` changes, drawn with replacement; at most 6 ms each at 320x240 on one core."""
    chosen = rng.integers(len(MOVES) + len(REPAINTS), size=spec.num_ops)
    strengths = rng.choice([-1.0, 1.0], size=spec.num_ops) * spec.magnitude / MAX_MAGNITUDE
    height, width = sample.canvas_hw
    for number, strength in zip(chosen, strengths, strict=True):
        if number < len(MOVES):
            matrix, shares = MOVES[number](float(strength))
            sample = sample.mapped(Affine(matrix, shares * np.array([width, height]), box_rule=spec.boxes))
    for number, strength in zip(chosen, strengths, strict=True):
        if number >= len(MOVES):
            sample = REPAINTS[number - len(MOVES)](sample, float(strength))
    return sample
