"""Schema of a comparison of runs, which `pyramidion compare --json` prints and `GET /v1/compare` returns."""

from pydantic import Field

from pipelines.base.records import Split
from pipelines.spec.base import Spec


class RunDifference(Spec):
    """The number of a run minus that of the first run; null where it is undefined."""

    difference: float | None
    low: float | None = Field(description="lower end of the interval, the 2.5th percentile over the samples")
    high: float | None = Field(description="upper end of the interval, the 97.5th percentile over the samples")
    excludes_zero: bool = Field(description="whether the interval lies above or below zero: the difference is real")


class ComparedNumber(Spec):
    """One number of every run."""

    name: str
    values: tuple[float | None, ...] = Field(description="one for each run, as in result.json")
    differences: tuple[RunDifference, ...] = Field(description="one for each run after the first")


class ComparedClass(Spec):
    """One class, or one identity of an embedding task."""

    label: str
    numbers: tuple[ComparedNumber, ...]


class ComparedTask(Spec):
    """One task."""

    kind: str
    num_images: int
    metrics: tuple[ComparedNumber, ...]
    per_class: tuple[ComparedClass, ...]


class RunComparison(Spec):
    """Runs side by side on the same images, with paired bootstrap intervals of their differences."""

    schema_version: int = 1
    runs: tuple[str, ...] = Field(
        description="folders or ids of jobs; the first is the one that others are compared to"
    )
    split: Split
    confidence: float
    num_samples: int = Field(description="number of samples of the images, drawn with replacement")
    seed: int
    tasks: dict[str, ComparedTask]
