"""Score thresholds of predictions: a number for all classes, or the best threshold of each class. Torch-free.

Thresholds apply to answers, after a head has decoded them: they cannot show what the head's own `score_threshold`
has removed.
"""

from collections.abc import Collection, Mapping, Sequence
from math import inf
from typing import Any, Final, Literal

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import Category
from pipelines.base.suggestions import did_you_mean
from pipelines.tasks.answer_files import AnswerJson
from pipelines.tasks.base import BestThresholds, TaskSpec
from pipelines.tasks.class_thresholds import ClassThresholds, class_thresholds
from pipelines.tasks.kinds import kind_of

BEST: Final = "best"
Threshold = Literal["best"] | float
"""The request: `best`, or a number in [0, 1] for all classes."""

VALID_THRESHOLDS = "write best, or a number from 0 to 1, such as 0.4"


class ThresholdUnusable(ConfigError):
    """A threshold was requested of a model that has none, or that has nothing to select."""


class ClassUnknown(ConfigError):
    """Only some classes of a model were requested, and it does not have one of them."""


def read_threshold(text: str) -> Threshold:
    """Return the threshold that a text requests; raises ValueError for any other text."""
    if text == BEST:
        return BEST
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError(f"{number} is not in [0, 1]")
    return number


def threshold_option(text: str | None, field: str = "--threshold") -> Threshold | None:
    """Return the value of an option, None without it; raises ConfigError for `field` if it is not a threshold."""
    try:
        return None if text is None else read_threshold(text)
    except ValueError:
        raise ConfigError(FieldProblem(field, f"got {text!r}; {VALID_THRESHOLDS}")) from None


def best_thresholds(
    tasks: Mapping[str, TaskSpec], results: Mapping[str, Mapping[str, Any]]
) -> dict[str, BestThresholds]:
    """Return the best thresholds by task, from the entries of result.json about val.

    Tasks without thresholds are left out, and so are those whose entry is of a version that did not compute them.
    """
    found: dict[str, BestThresholds] = {}
    for name, spec in tasks.items():
        rows = results[name]["per_class"] if name in results and kind_of(spec).has_thresholds(spec) else ()
        if rows and all("best_threshold" in row for row in rows):
            found[name] = {row["label"]: row["best_threshold"] for row in rows}
    return found


def requested_thresholds(
    threshold: Threshold,
    tasks: Mapping[str, TaskSpec],
    categories: Mapping[str, Sequence[Category]],
    best: Mapping[str, BestThresholds],
) -> dict[str, ClassThresholds]:
    """Return the threshold of each class, for the tasks that have thresholds.

    Args:
        threshold: the request.
        tasks: of the model.
        categories: of the model, by task.
        best: the best thresholds of the model, by task.

    Raises:
        ThresholdUnusable: the model has no best thresholds of a task, or no task with thresholds.
    """
    names = [name for name, spec in tasks.items() if kind_of(spec).has_thresholds(spec)]
    if not names:
        message = (
            f"got {threshold}, but no task of the model ({', '.join(tasks)}) has scores to select by; leave it out"
        )
        raise ThresholdUnusable(FieldProblem("threshold", message))
    if threshold != BEST:
        return {name: dict.fromkeys((category.name for category in categories[name]), threshold) for name in names}
    if missing := [name for name in names if name not in best]:
        raise ThresholdUnusable(
            FieldProblem(
                "threshold",
                f"got best, but the model has no best thresholds of {', '.join(missing)}: it was trained by an earlier "
                "version; pass a number, such as 0.4 (`pyramidion validate` prints the best thresholds of a run)",
            )
        )
    return {name: class_thresholds(best[name]) for name in names}


def row_thresholds(
    threshold: Threshold | None,
    classes: Collection[str] | None,
    tasks: Mapping[str, TaskSpec],
    categories: Mapping[str, Sequence[Category]],
    best: Mapping[str, BestThresholds],
) -> dict[str, ClassThresholds] | None:
    """Return the score above which a row of an answer is kept, by task and class; None if all rows are kept.

    Args:
        threshold: see `requested_thresholds`; None: any score.
        classes: the classes to keep; None: all. Rows of other classes are removed from all tasks that have labels.
        tasks, categories, best: see `requested_thresholds`.

    Raises:
        ThresholdUnusable: see `requested_thresholds`.
        ClassUnknown: no task of the model has a class of this name.
    """
    limits = {} if threshold is None else requested_thresholds(threshold, tasks, categories, best)
    if classes is None:
        return limits or None
    names = {
        name: [category.name for category in categories[name]]
        for name, spec in tasks.items()
        if kind_of(spec).has_labels(spec)
    }
    known = {label for labels in names.values() for label in labels}
    if unknown := [label for label in classes if label not in known]:
        raise ClassUnknown([FieldProblem("classes", _unknown_class(label, sorted(known))) for label in unknown])
    for name, labels in names.items():
        own = limits.get(name, {})
        limits[name] = {label: own.get(label, -inf) if label in classes else inf for label in labels}
    return limits


def _unknown_class(label: str, known: Sequence[str]) -> str:
    if not known:
        return f"got {label!r}, but no task of the model has classes; leave it out"
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    hint = did_you_mean(label, known)
    listed = f"{'? The' if hint else 'the'} model has {', '.join(known[:20])}{more}"
    return f"got {label!r}, which is not a class of the model; {hint}{listed}"


def rows_above(spec: TaskSpec, answer: AnswerJson, thresholds: ClassThresholds) -> list[bool]:
    """Return for each row of a task's answer whether its score is above the threshold of its class."""
    field = kind_of(spec).answer_rows
    assert field is not None
    return [row["score"] > thresholds[row["label"]] for row in answer[field]]
