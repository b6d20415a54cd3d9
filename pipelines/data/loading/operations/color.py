"""Operations that change colors."""

import numpy as np

from pipelines.data.loading.color import draw_color
from pipelines.data.loading.planned_sample import PlannedSample, SampleSource
from pipelines.spec.operations.color import PhotometricSpec


def change_color(
    spec: PhotometricSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource
) -> PlannedSample:
    """Change brightness, contrast, saturation and the gains of the channels, each with probability `p`."""
    color = draw_color(spec.p, rng)
    return sample if color is None else sample.recolored(color)
