"""Names of the numbers in a summary, and the one that selects the best checkpoint. Torch-free."""

from collections.abc import Mapping
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.suggestions import did_you_mean
from pipelines.spec.learning import SelectSpec
from pipelines.spec.model import ModelSpec
from pipelines.tasks.base import TaskSpec
from pipelines.tasks.kinds import KINDS, kind_of


def summary_keys(split: str, name: str, spec: TaskSpec) -> list[str]:
    """Return all `<split>/<task>/<metric>` that scoring the task gives."""
    return [f"{split}/{name}/{metric}" for metric in kind_of(spec).metrics]


def summarize(split: str, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return `{"<split>/<task>/<metric>": value}` of results as `evaluate_task` gives them; undefined is None."""
    summary: dict[str, float | None] = {}
    for name, result in tasks.items():
        kind = KINDS[result["kind"]]
        numbers = kind.numbers(result)
        summary.update({f"{split}/{name}/{metric}": numbers[metric] for metric in kind.metrics})
    return summary


def selection(model: ModelSpec) -> SelectSpec:
    """Return `model.select`, or by default the main metric of the task that the document names first.

    Raises:
        ConfigError: no task of the model is scored by this metric on val.
    """
    if model.select is None:
        name, spec = next(iter(model.tasks.items()))
        return SelectSpec(metric=f"val/{name}/{kind_of(spec).main_metric(spec)}", mode="max")
    known = [key for name, spec in model.tasks.items() for key in summary_keys("val", name, spec)]
    if model.select.metric not in known:
        suggestion = did_you_mean(model.select.metric, known)
        hint = f"{suggestion}? " if suggestion else ""
        message = f"got {model.select.metric!r}; {hint}choose one of {', '.join(known)}"
        raise ConfigError(FieldProblem("model.select.metric", message))
    return model.select
