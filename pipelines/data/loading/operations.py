"""The operations of `data.augment`.

Each one is a function of its section of the document, a sample, a random generator and the source of further samples;
it returns the changed sample. All randomness comes from the generator, whose state is a function of (seed, epoch,
index).
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import numpy as np

from pipelines.data.loading.color import draw_color
from pipelines.data.loading.planned_sample import PlannedSample, SampleSource
from pipelines.spec.augment import (
    HorizontalFlipSpec,
    OperationSpec,
    PhotometricSpec,
    ScaleJitterSpec,
    VerticalFlipSpec,
)

ApplyOperation = Callable[[Any, PlannedSample, np.random.Generator, SampleSource], PlannedSample]


def implementation_of(operation: OperationSpec) -> ApplyOperation:
    """Return the function that applies an operation."""
    module, name = operation.IMPLEMENTATION.split(":")
    return cast("ApplyOperation", getattr(import_module(module), name))


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


def change_color(
    spec: PhotometricSpec, sample: PlannedSample, rng: np.random.Generator, source: SampleSource
) -> PlannedSample:
    """Change brightness, contrast, saturation and the gains of the channels, each with probability `p`."""
    color = draw_color(spec.p, rng)
    return sample if color is None else sample.recolored(color)
