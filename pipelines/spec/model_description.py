"""The content of `model.json` in an exported model. Torch-free."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from pipelines.base.records import Category
from pipelines.spec.job import JobSpec
from pipelines.tasks.base import BestThresholds, Share
from pipelines.tasks.class_thresholds import ClassThresholds
from pipelines.tasks.thresholds import Threshold, row_thresholds

FORMAT = 1

Temperature = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_TEMPERATURES: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, Temperature])
_BEST_THRESHOLDS: TypeAdapter[dict[str, BestThresholds]] = TypeAdapter(dict[str, Mapping[str, Share | None]])


@dataclass(frozen=True)
class ModelDescription:
    """An exported model without its weights.

    Attributes:
        job: the document that it was trained with.
        categories: by task, the classes (identities of an embedding) in the order of the labels.
        best_thresholds: by task; models of earlier versions have none.
        temperatures: of calibrated scores, by task.
    """

    job: JobSpec
    categories: Mapping[str, Sequence[Category]]
    best_thresholds: Mapping[str, BestThresholds]
    temperatures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, described: Any) -> "ModelDescription":
        """Return the description that the content of `model.json` is; raises ValueError if it is none."""
        content = of_known_format(described)
        try:
            job = JobSpec.model_validate(content["job"])
            categories = {
                task: [Category(row["id"], row["name"]) for row in rows] for task, rows in content["categories"].items()
            }
        except (AttributeError, KeyError, TypeError, ValidationError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        try:
            best = _BEST_THRESHOLDS.validate_python(content.get("best_thresholds", {}))
        except ValidationError as error:
            raise ValueError(f"its best_thresholds cannot be read ({error.error_count()} errors)") from error
        try:
            temperatures = _TEMPERATURES.validate_python(content.get("temperatures", {}))
        except ValidationError as error:
            raise ValueError(f"its temperatures cannot be read ({error.error_count()} errors)") from error
        if missing := job.model.tasks.keys() - categories.keys():
            raise ValueError(f"it has no categories of {', '.join(sorted(missing))}")
        return cls(job, categories, best, temperatures)

    def row_thresholds(
        self, threshold: Threshold | None, classes: Collection[str] | None
    ) -> dict[str, ClassThresholds] | None:
        """Return the score above which a row of an answer is kept, see `pipelines.tasks.thresholds.row_thresholds`,
        which also lists the errors."""
        return row_thresholds(threshold, classes, self.job.model.tasks, self.categories, self.best_thresholds)


def of_known_format(described: Any) -> dict[str, Any]:
    """Return the content of a `model.json`; raises ValueError if it is of another format."""
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        found = described.get("format") if isinstance(described, dict) else None
        raise ValueError(f"it has format {found!r}, this version reads {FORMAT}")
    return described
