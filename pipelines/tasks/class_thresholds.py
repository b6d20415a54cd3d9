"""A threshold for every class of a task, also for those without a best threshold. Torch-free."""

from collections.abc import Mapping
from statistics import median

from pipelines.tasks.base import BestThresholds

DEFAULT_THRESHOLD = 0.5
"""For a task without a class that has a best threshold."""

ClassThresholds = Mapping[str, float]
"""The threshold of each class of a task by its name."""


def class_thresholds(best: BestThresholds) -> ClassThresholds:
    """Return a threshold for each class: the best one, else the median of the other classes, else 0.5."""
    defined = [value for value in best.values() if value is not None]
    fallback = median(defined) if defined else DEFAULT_THRESHOLD
    return {label: fallback if value is None else value for label, value in best.items()}
