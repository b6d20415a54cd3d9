"""Operations that move pixels and boxes."""

import numpy as np

from pipelines.data.loading.planned_sample import PlannedSample, SampleSource
from pipelines.spec.operations.geometry import HorizontalFlipSpec, ScaleJitterSpec, VerticalFlipSpec


def flip_horizontally(
    spec: HorizontalFlipSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource
) -> PlannedSample:
    """Swap left and right with probability `p`."""
    return sample.hflipped() if rng.random() < spec.p else sample


def flip_vertically(
    spec: VerticalFlipSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource
) -> PlannedSample:
    """Swap top and bottom with probability `p`."""
    return sample.vflipped() if rng.random() < spec.p else sample


def jitter_scale(
    spec: ScaleJitterSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource
) -> PlannedSample:
    """Zoom log-uniformly (halving is as likely as doubling), then crop or pad at a random place."""
    zoom = 1.0
    if spec.range is not None:
        low, high = np.log(spec.range)
        zoom = float(np.exp(rng.uniform(low, high)))
    return sample.zoomed(zoom, place_y=rng.random(), place_x=rng.random())
