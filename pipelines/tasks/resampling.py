"""The predictions of one task, scored on samples of the images. Torch-free.

A comparison of runs draws images with replacement (Efron 1979, "Bootstrap Methods: Another Look at the Jackknife") and
scores every run on the same samples. An image that is drawn twice counts twice, as if the split contained it twice.

Legend: I images, S samples.
"""

import csv
import json
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.tasks.arrays import ratio

Numbers = NDArray[np.float64]
Counts = NDArray[np.float64]
"""Whole numbers; float64, because products of matrices of integers are slow."""

DAMAGES = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    csv.Error,
    json.JSONDecodeError,
    UnicodeDecodeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What readers of JSON, CSV and NumPy files raise for damaged files."""


@dataclass(frozen=True)
class SampleScores:
    """Scores of S samples; NaN where a number is undefined.

    Attributes:
        metrics: (S,) by the name of the metric in result.json.
        per_class: (S,) by class and by the name of the number.
    """

    metrics: dict[str, Numbers]
    per_class: dict[str, dict[str, Numbers]] = field(default_factory=dict)


class ScoredImages(ABC):
    """What a run predicted for a task, together with the labels.

    Attributes:
        images: id and file name of each image that is scored, in ascending order: I of them.
        labels: of each image, in a form that is equal exactly if the labels are.
        classes: in the order of result.json.
        num_rows: the most numbers that `scores` holds at a time for one sample, which bounds its memory.
    """

    images: list[tuple[int, str]]
    labels: Mapping[int, Hashable]
    classes: list[str]
    num_rows: int

    @abstractmethod
    def scores(self, counts: Counts) -> SampleScores:
        """Return the scores of S samples.

        Args:
            counts: (S, I) how often each sample contains each image.
        """


def positions_of(images: list[tuple[int, str]]) -> dict[int, int]:
    """Return the position of each image by its id."""
    return {image_id: position for position, (image_id, _) in enumerate(images)}


def mean_of_defined(values: Numbers, axis: int = 0) -> Numbers:
    """Return the mean over an axis of the values that are not NaN; NaN where there are none."""
    is_defined = ~np.isnan(values)
    return ratio(np.where(is_defined, values, 0).sum(axis=axis), is_defined.sum(axis=axis))
