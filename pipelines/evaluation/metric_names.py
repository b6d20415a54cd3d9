"""The one owner of metric names: what each kind of task is scored by, and what the numbers are called."""

import difflib
from collections.abc import Mapping
from typing import Any

from pipelines.errors import ConfigError, FieldProblem
from pipelines.spec.learning import SelectSpec
from pipelines.spec.model import ModelSpec
from pipelines.spec.result import Kind
from pipelines.spec.tasks import ClassificationSpec, DetectionSpec, EmbeddingSpec, TaskSpec

METRICS: dict[Kind, tuple[str, ...]] = {
    "detection": ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
    "classification": ("accuracy", "balanced_accuracy", "macro_f1", "mAP", "top1_macro_recall"),
    "embedding": ("recall_at_1", "recall_at_5", "recall_at_10", "r_precision", "map_at_r", "macro_recall_at_1", "nmi"),
}
"""By kind of task; all are better when higher, in [0, 1]. COCO's twelve are in COCO's order."""


def kind_of(task: TaskSpec) -> Kind:
    """Return what the task's entry in result.json is called."""
    if isinstance(task, DetectionSpec):
        return "detection"
    if isinstance(task, ClassificationSpec):
        return "classification"
    if isinstance(task, EmbeddingSpec):
        return "embedding"
    raise TypeError(f"no metrics are known for tasks of type {type(task).__name__}")


def main_metric(task: TaskSpec) -> str:
    """Return the metric that chooses the best checkpoint where `model.select` is absent."""
    main = {"detection": "AP", "classification": "mAP", "embedding": "recall_at_1"}
    if isinstance(task, ClassificationSpec) and not task.is_multilabel:
        return "macro_f1"
    return main[kind_of(task)]


def summary_keys(split: str, name: str, task: TaskSpec) -> list[str]:
    """Return all `<split>/<task>/<metric>` that scoring the task gives."""
    return [f"{split}/{name}/{metric}" for metric in METRICS[kind_of(task)]]


def summarize(split: str, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return `{"<split>/<task>/<metric>": value}` of results as `evaluate_task` gives them; undefined is None."""
    summary: dict[str, float | None] = {}
    for name, result in tasks.items():
        numbers = result["coco"] if result["kind"] == "detection" else result
        summary.update({f"{split}/{name}/{metric}": numbers[metric] for metric in METRICS[result["kind"]]})
    return summary


def selection(model: ModelSpec) -> SelectSpec:
    """Return `model.select`, or by default the main metric of the task that the document names first.

    Raises:
        ConfigError: The metric is none that the model's tasks are scored by on val.
    """
    if model.select is None:
        name, task = next(iter(model.tasks.items()))
        return SelectSpec(metric=f"val/{name}/{main_metric(task)}", mode="max")
    known = [key for name, task in model.tasks.items() for key in summary_keys("val", name, task)]
    if model.select.metric not in known:
        close = difflib.get_close_matches(model.select.metric, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        message = f"got {model.select.metric!r}; {hint}choose one of {', '.join(known)}"
        raise ConfigError(FieldProblem("model.select.metric", message))
    return model.select
