"""The document of a sweep: a job document, fields to search over, and how trials are chosen. Torch-free."""

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from pipelines.base.errors import ConfigError
from pipelines.base.names import Name
from pipelines.spec.base import Count, Spec
from pipelines.spec.explain import explain

MAX_TRIALS = 1000
MAX_FIELDS = 50
MAX_CHOICES = 50

RESERVED = ("name", "recipe", "tracking", "data.root", "data.dataset")
"""Fields that all trials of a sweep share."""

FACTS = ("model.parameters", "model.best_epoch", "timing.train_s", "timing.test_s", "timing.used_s")
"""Numbers of result.json besides metrics that may be limited."""


class FloatRange(Spec):
    """A number between two limits, both included."""

    kind: Literal["float"]
    low: float
    high: float
    log: bool = Field(False, description="whether the logarithm is searched evenly")

    @model_validator(mode="after")
    def _is_range(self) -> "FloatRange":
        _require_range(self.low, self.high, is_log=self.log)
        if not math.isfinite(self.high - self.low):
            raise ValueError(f"high: got {self.high}, which is too far above low ({self.low}); write a smaller number")
        return self

    @property
    def extremes(self) -> tuple[JsonValue, ...]:
        """The values at the ends of the range."""
        return self.low, self.high


class IntRange(Spec):
    """A whole number between two limits, both included."""

    kind: Literal["int"]
    low: int
    high: int
    step: Count = 1
    log: bool = Field(False, description="whether the logarithm is searched evenly")

    @model_validator(mode="after")
    def _is_range(self) -> "IntRange":
        _require_range(self.low, self.high, is_log=self.log)
        if self.log and self.step != 1:
            raise ValueError(f"step: got {self.step} beside log; write only one of them")
        if excess := (self.high - self.low) % self.step:
            raise ValueError(f"high: got {self.high}, which no step of {self.step} reaches; write {self.high - excess}")
        return self

    @property
    def extremes(self) -> tuple[JsonValue, ...]:
        """The values at the ends of the range."""
        return self.low, self.high


class CategoricalValues(Spec):
    """One of several values, which may be whole sections of the document."""

    kind: Literal["categorical"]
    choices: Annotated[tuple[JsonValue, ...], Field(min_length=1, max_length=MAX_CHOICES)]

    @field_validator("choices")
    @classmethod
    def _choices_differ(cls, choices: tuple[JsonValue, ...]) -> tuple[JsonValue, ...]:
        texts = [_as_json(choice) for choice in choices]
        if repeated := next((text for text in texts if texts.count(text) > 1), None):
            raise ValueError(f"got {repeated} more than once; write each choice once")
        return choices

    def position_of(self, value: JsonValue) -> int:
        """Return the position of a choice."""
        return [_as_json(choice) for choice in self.choices].index(_as_json(value))

    @property
    def extremes(self) -> tuple[JsonValue, ...]:
        """All values."""
        return self.choices


SearchSpace = Annotated[FloatRange | IntRange | CategoricalValues, Field(discriminator="kind")]


class NumberLimit(Spec):
    """The limit of a number of result.json: at most `max`, or at least `min`."""

    max: float | None = None
    min: float | None = None

    @model_validator(mode="after")
    def _has_one_side(self) -> "NumberLimit":
        if (self.max is None) == (self.min is None):
            raise ValueError("write either max or min")
        return self

    def excess(self, number: float) -> float:
        """Return by how much a number exceeds the limit; at most 0 if it does not."""
        return number - self.max if self.max is not None else (self.min or 0.0) - number


class SuccessiveHalving(Spec):
    """Stop trials early (ASHA; Li et al. 2020, arXiv:1810.05934).

    After `min_epochs`, and whenever the epochs have grown by `reduction_factor`, only the best one of
    `reduction_factor` trials continues.
    """

    kind: Literal["successive_halving"]
    min_epochs: Count = Field(1, description="epochs before the first decision about a trial")
    reduction_factor: Annotated[int, Field(ge=2, le=100)] = 3


class SweepSpec(Spec):
    """A sweep: trials are jobs, whose documents differ in the fields of `search`."""

    name: Name | None = Field(None, description="name of the sweep; the default is that of the document")
    document: dict[str, JsonValue] = Field(description="the job document; fields of `search` are replaced in it")
    search: Annotated[dict[str, SearchSpace], Field(min_length=1, max_length=MAX_FIELDS)] = Field(
        description="the values of fields of the document, by dotted name"
    )
    metric: str | None = Field(
        None, description="metric on val to optimize, val/TASK/METRIC; the default is model.select of the document"
    )
    direction: Literal["maximize", "minimize"] | None = Field(
        None, description="the default is that of model.select for its metric, and maximize for others"
    )
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] = Field(description="number of trials")
    parallel: Annotated[int, Field(ge=1, le=100)] = Field(1, description="trials in the queue or running at once")
    sampler: Literal["tpe", "random"] = Field("tpe", description="how values are chosen")
    pruner: SuccessiveHalving | None = Field(None, description="stops trials early; null: all run to their end")
    constraints: dict[str, NumberLimit] = Field(
        {}, description="limits of numbers of the result, such as val/TASK/METRIC, model.parameters or timing.train_s"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(0, description="seed of the sampler")
    max_failures: Count = Field(3, description="number of trials failed in a row after which the sweep ends")

    @field_validator("search")
    @classmethod
    def _fields_are_separate(cls, search: dict[str, SearchSpace]) -> dict[str, SearchSpace]:
        for name in search:
            if not all(name.split(".")):
                raise ValueError(f"{name}: is not a dotted name; write a field such as model.optimizer.lr")
            if above := next((other for other in search if name.startswith(f"{other}.")), None):
                raise ValueError(f"{name}: is a part of {above}, which is searched too; keep one of them")
            if shared := next((field for field in RESERVED if _overlap(name, field)), None):
                raise ValueError(
                    f"{name}: is shared by all trials ({shared}); remove it, or start a sweep for each value"
                )
        return search


def validate_sweep(config: Mapping[str, Any]) -> SweepSpec:
    """Return the validated document of a sweep; raises ConfigError with one problem for each invalid field.

    The documents of its trials are checked by `pipelines.spec.sweep_documents`.
    """
    try:
        return SweepSpec.model_validate(config)
    except ValidationError as error:
        raise ConfigError(explain(error, config, SweepSpec)) from error


def _as_json(choice: JsonValue) -> str:
    """Return a text that differs for `True` and 1, which are equal in Python."""
    return json.dumps(choice, sort_keys=True)


def _overlap(first: str, second: str) -> bool:
    return f"{first}.".startswith(f"{second}.") or f"{second}.".startswith(f"{first}.")


def _require_range(low: float, high: float, *, is_log: bool) -> None:
    if low >= high:
        raise ValueError(f"high: got {high}, which is not above low ({low}); write a larger number")
    if is_log and low <= 0:
        raise ValueError(f"low: got {low}, which has no logarithm; write a number above 0, or remove log")
