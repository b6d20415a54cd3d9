"""Schema of result.json. `GET /v1/jobs/{id}/results` returns the same document.

Undefined numbers, such as the AP of a class without ground truth, are null.
"""

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, Union

from pydantic import Field, JsonValue

from pipelines.base.records import Split
from pipelines.spec.base import Spec
from pipelines.tasks.base import TaskResult
from pipelines.tasks.kinds import KINDS

if TYPE_CHECKING:
    AnyTaskResult: TypeAlias = TaskResult
else:
    AnyTaskResult = Annotated[Union[tuple(kind.result for kind in KINDS.values())], Field(discriminator="kind")]  # noqa: UP007


class SplitResult(Spec):
    """All tasks on one split; the keys of `summary` are `<split>/<task>/<metric>`."""

    summary: dict[str, float | None]
    tasks: dict[str, AnyTaskResult]


class Selected(Spec):
    """Metric that chose the best checkpoint; `value` is the best checkpoint's number on val."""

    metric: str
    mode: Literal["max", "min"]
    value: float | None


class SkippedImage(Spec):
    """An image that `data.on_error: skip` left out, and why; `file` is relative to the data root."""

    file: str
    split: Split
    kind: Literal["missing_image", "unreadable_image", "same_image_in_splits"]


class DataResult(Spec):
    """The images of all splits that are listed in the label files but were left out."""

    num_skipped: int
    skipped: list[SkippedImage]


class CorruptedResult(Spec):
    """The split under one corruption of its images; the keys of `summary` are those of the clean numbers."""

    corruption: str
    strength: Literal[1, 2, 3]
    setting: str = Field(description="the strength in words")
    summary: dict[str, float | None]


class SliceNumbers(Spec):
    """One task on a slice; `num_images` counts the images that are labeled for it."""

    num_images: int
    numbers: dict[str, float | None]


class SliceResult(Spec):
    """The images with one value in a column of the table of slices."""

    value: str
    num_images: int
    tasks: dict[str, SliceNumbers]


class WorstSlice(Spec):
    """The slice of a column with the lowest main metric of a task."""

    value: str
    metric: str
    number: float


class SliceColumn(Spec):
    """The slices by one column, and the worst one by task; null where the metric is undefined in all of them."""

    column: str
    values: list[SliceResult]
    worst: dict[str, WorstSlice | None]


class RunResult(SplitResult):
    """The whole result; `summary` and `tasks` are about `split`, which is test if the data has one."""

    schema_version: Literal[1] = 1
    split: Split
    select: Selected
    val: SplitResult | None = Field(description="null if val was not scored")
    corruptions: list[CorruptedResult] = Field([], description="empty if they were not requested")
    slices: list[SliceColumn] = Field([], description="empty if none were requested")
    data: DataResult | None = Field(None, description="null in results of earlier versions")
    model: dict[str, JsonValue]
    timing: dict[str, float]
    versions: dict[str, str]
