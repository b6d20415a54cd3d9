"""The prediction that a request names, found in the answer of the predict endpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.suggestions import did_you_mean
from pipelines.spec.explanation import ExplanationRequest
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.kinds import kind_of


class ExplanationUnusable(ConfigError):
    """A request for an explanation does not fit the model or the image; `field` is a field of the request."""


@dataclass(frozen=True)
class ChosenRow:
    """A row of the answer of a task.

    Attributes:
        task: the task.
        number: position of the row; None: the answer has no rows, and is about the whole image.
        found: the row, or the answer itself.
        label: the class whose score is explained; None: the task has no classes.
    """

    task: TaskSetup[Any]
    number: int | None
    found: AnswerJson
    label: str | None

    def position_of(self, label: str | None) -> int | None:
        """Return the position of a class among those of the task."""
        return None if label is None else self.task.positions[label]


def choose_task(tasks: Mapping[str, TaskSetup[Any]], request: ExplanationRequest) -> TaskSetup[Any]:
    """Return the task that a request names; raises ExplanationUnusable if it is unknown or not named."""
    names = ", ".join(tasks)
    if request.task is None and len(tasks) > 1:
        raise _unusable("task", f"missing; the model has the tasks {names}")
    if request.task is not None and request.task not in tasks:
        hint = did_you_mean(request.task, tasks)
        raise _unusable("task", f"got {request.task!r}; {hint + '? ' if hint else ''}The model has {names}")
    return tasks[request.task or next(iter(tasks))]


def choose_row(task: TaskSetup[Any], answer: AnswerJson, request: ExplanationRequest) -> ChosenRow:
    """Return the row that a request names.

    Args:
        task: the task.
        answer: of the task for the image, with all rows.
        request: see `ExplanationRequest`.

    Raises:
        ExplanationUnusable: the task does not have the class, or the answer does not have the row.
    """
    kind = kind_of(task.spec)
    has_labels = kind.has_labels(task.spec)
    if request.label is not None:
        _require_class(task, request.label, has_labels)
    if kind.answer_rows is None or kind.answer_rows not in answer:
        if request.prediction:
            raise _unusable("prediction", f"got {request.prediction}; task {task.name!r} has one prediction, number 0")
        return ChosenRow(task, None, answer, request.label)
    rows: Sequence[AnswerJson] = answer[kind.answer_rows]
    number = _number(task, rows, request)
    return ChosenRow(task, number, rows[number], request.label or (rows[number]["label"] if has_labels else None))


def _require_class(task: TaskSetup[Any], label: str, has_labels: bool) -> None:
    if not has_labels:
        raise _unusable("class", f"got {label!r}, but task {task.name!r} has no classes; leave it out")
    if label not in task.positions:
        hint = did_you_mean(label, task.positions)
        shown = ", ".join(list(task.positions)[:20])
        raise _unusable("class", f"got {label!r}; {hint + '? ' if hint else ''}Task {task.name!r} has {shown}")


def _number(task: TaskSetup[Any], rows: Sequence[AnswerJson], request: ExplanationRequest) -> int:
    if not rows:
        raise _unusable("prediction", f"task {task.name!r} finds nothing in this image; choose another image or task")
    number = request.prediction
    if number is not None:
        if number >= len(rows):
            message = f"got {number}; task {task.name!r} has {len(rows)} predictions for this image, counted from 0"
            raise _unusable("prediction", message)
        return number
    if request.label is None:
        return 0
    found = next((position for position, row in enumerate(rows) if row["label"] == request.label), None)
    if found is None:
        message = (
            f"task {task.name!r} finds no {request.label!r} in this image; name a prediction, to explain the score "
            "that it has for this class"
        )
        raise _unusable("prediction", message)
    return found


def _unusable(field: str, message: str) -> ExplanationUnusable:
    return ExplanationUnusable(FieldProblem(field, message))
