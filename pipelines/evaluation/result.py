"""Assemble and write result.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.base.records import Split
from pipelines.evaluation.metric_names import summarize
from pipelines.run_folder.files import write_atomic
from pipelines.spec.learning import SelectSpec
from pipelines.spec.result import DataResult, RunResult

TaskResults = Mapping[str, Mapping[str, Any]]


def build_result(
    *,
    split: Split,
    tasks: TaskResults,
    val_tasks: TaskResults | None,
    select: SelectSpec,
    data: DataResult,
    model: Mapping[str, Any],
    timing: Mapping[str, float],
    versions: Mapping[str, str],
    corruptions: Sequence[Mapping[str, Any]] = (),
    slices: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the content of result.json, validated against its schema.

    Args:
        split: the scored split: test where the data has one, else val.
        tasks: by task, as `evaluate_task` returns it.
        val_tasks: the same for val and the best checkpoint; None where val was not scored.
        select: the metric that chose the best checkpoint; its value is looked up in val's summary.
        data: the images that were left out.
        model: facts about the model, such as parameters and the best epoch.
        timing: seconds by phase.
        versions: of the packages that matter.
        corruptions: the summaries of the split under corruptions.
        slices: as `score_slices` returns them.

    Raises:
        pydantic.ValidationError: a number is NaN or out of its range, or a key is missing or unknown.
    """
    val = None if val_tasks is None else {"summary": summarize("val", val_tasks), "tasks": val_tasks}
    value = val["summary"].get(select.metric) if val else None
    document = {
        "split": split,
        "select": {"metric": select.metric, "mode": select.mode, "value": value},
        "summary": summarize(split, tasks),
        "tasks": tasks,
        "val": val,
        "corruptions": list(corruptions),
        "slices": list(slices),
        "data": data.model_dump(),
        "model": model,
        "timing": timing,
        "versions": versions,
    }
    return RunResult.model_validate(document).model_dump(mode="json")


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write result.json atomically."""
    write_atomic(path, json.dumps(result, allow_nan=False, indent=1, ensure_ascii=False) + "\n")
