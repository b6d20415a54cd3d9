"""Compare runs that were scored on the same images: is the difference of their numbers real? Torch-free.

Paired bootstrap: each sample draws as many images as there are, with replacement, and every run is scored on it. The
interval of a difference is that between the 2.5th and the 97.5th percentile over the samples (Efron and Tibshirani
1993, "An Introduction to the Bootstrap", section 13.3).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.quantities import quantity
from pipelines.run_folder.layout import RunDir
from pipelines.spec.comparison import ComparedClass, ComparedNumber, ComparedTask, RunComparison, RunDifference
from pipelines.spec.result import RunResult
from pipelines.tasks.kinds import KINDS
from pipelines.tasks.resampling import DAMAGES, Numbers, SampleScores, ScoredImages

CONFIDENCE = 0.95
DEFAULT_SAMPLES = 1000
SEED = 0
MAX_CELLS = 2**22
"""Numbers of one chunk of samples: 32 MiB."""
TOLERANCE = 1e-4
"""Largest difference between a number of result.json and the one that follows from the files: some are sums of many
numbers in float32."""


@dataclass(frozen=True)
class OpenedRun:
    """A folder with results: its name in messages, its paths, and result.json."""

    name: str
    folder: RunDir
    result: Mapping[str, Any]


def open_run(name: str, path: Path) -> OpenedRun:
    """Return a run folder, or a folder below its `eval/`; raises ConfigError if it has no valid result.json."""
    folder = RunDir.of(path)
    try:
        result = RunResult.model_validate_json(folder.result.read_bytes()).model_dump(mode="json")
    except OSError as error:
        message = f"{folder.result.name}: {error.strerror}; name a folder that fit, validate or test has written"
        raise ConfigError(FieldProblem(name, message)) from error
    except ValueError as error:
        raise ConfigError(
            FieldProblem(name, f"{folder.result.name} is not the result of a training: {error}")
        ) from error
    return OpenedRun(name, folder, result)


def compare_runs(
    runs: Sequence[OpenedRun], tasks: Sequence[str] = (), *, num_samples: int = DEFAULT_SAMPLES, seed: int = SEED
) -> RunComparison:
    """Return the numbers of runs side by side, with the intervals of their differences to the first run.

    Args:
        runs: at least two.
        tasks: those to compare; by default all, which must be the same in every run.
        num_samples: of the bootstrap.
        seed: of the bootstrap; equal seeds give equal intervals.

    Raises:
        ConfigError: the runs were scored on different images, labels or classes, their tasks differ, or a file is
            missing.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.result["split"] != first.result["split"]:
            message = f"was scored on {run.result['split']}, but {first.name} on {first.result['split']}"
            raise ConfigError(FieldProblem(run.name, f"{message}; compare results on the same split"))
    compared = {}
    for task in _common_tasks(runs, tasks):
        scored = [_scored_images(run, task) for run in runs]
        for run, images in zip(runs[1:], scored[1:], strict=True):
            _require_same_images(task, first, scored[0], run, images)
        results = [run.result["tasks"][task] for run in runs]
        compared[task] = _compared_task(results, scored, num_samples, seed)
    return RunComparison(
        runs=tuple(run.name for run in runs),
        split=first.result["split"],
        confidence=CONFIDENCE,
        num_samples=num_samples,
        seed=seed,
        tasks=compared,
    )


def difference_interval(first: ScoredImages, second: ScoredImages, metric: str) -> tuple[float, float] | None:
    """Return the interval of second minus first; None if the metric or most of its samples are undefined.

    Both must have the same images and labels.
    """
    samples = [scores.metrics.get(metric) for scores in _sampled([first, second], DEFAULT_SAMPLES, SEED)]
    found = _difference(0.0, 0.0, *samples)
    return None if found.low is None or found.high is None else (found.low, found.high)


def _common_tasks(runs: Sequence[OpenedRun], requested: Sequence[str]) -> list[str]:
    kinds = [{name: task["kind"] for name, task in run.result["tasks"].items()} for run in runs]
    for run, found in zip(runs, kinds, strict=True):
        for name in requested or kinds[0]:
            if name not in found:
                message = f"has no task {name!r}, only {', '.join(found)}; choose common tasks by --task"
                raise ConfigError(FieldProblem(run.name, message))
            if found[name] != kinds[0][name]:
                message = f"task {name!r} is of the kind {found[name]}, but in {runs[0].name} of {kinds[0][name]}"
                raise ConfigError(FieldProblem(run.name, f"{message}; choose other tasks by --task"))
        if not requested and (more := found.keys() - kinds[0].keys()):
            message = f"has the tasks {', '.join(sorted(more))}, which {runs[0].name} lacks; choose by --task"
            raise ConfigError(FieldProblem(run.name, message))
    return list(dict.fromkeys(requested or kinds[0]))


def _scored_images(run: OpenedRun, task: str) -> ScoredImages:
    result = run.result["tasks"][task]
    kind = KINDS[result["kind"]]
    truth = kind.ground_truth
    predictions = run.folder.predictions / f"{task}{kind.predictions.suffix}"
    labels = None if truth is None else run.folder.ground_truth / f"{task}{truth.suffix}"
    try:
        scored = kind.scored_images(result, predictions, labels)
        if scored is not None:
            _require_distinct(scored)
            _require_agreement(run, task, kind.numbers(result), scored)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}; a comparison needs the predictions of the run"
        raise ConfigError(FieldProblem(run.name, message)) from error
    except DAMAGES as error:
        message = (
            f"task {task!r}: its files in {predictions.parent.name}/ or {run.folder.ground_truth.name}/ are damaged"
        )
        advice = "run `pyramidion test` again, and compare its folders"
        raise ConfigError(FieldProblem(run.name, f"{message} ({error!r}); {advice}")) from error
    except ValueError as error:
        raise ConfigError(FieldProblem(run.name, f"task {task!r}: {error}")) from error
    if scored is None:
        raise ConfigError(FieldProblem(run.name, f"task {task!r}: the kind {kind.name} cannot be compared"))
    return scored


def _require_distinct(scored: ScoredImages) -> None:
    """Raise ValueError if an image occurs more than once, and TypeError if the name of one is not a text."""
    for image_id, name in scored.images:
        if not isinstance(name, str):
            raise TypeError(f"the file name of image {image_id} is {name!r}")
    if len({image_id for image_id, _ in scored.images}) < len(scored.images):
        raise ValueError("its files have an image more than once; run `pyramidion test` again, and compare its folders")


def _require_agreement(run: OpenedRun, task: str, numbers: Mapping[str, float | None], scored: ScoredImages) -> None:
    """Raise ConfigError where the files give other numbers than result.json, because they are of another evaluation."""
    if not scored.images:
        return
    computed = scored.scores(np.ones((1, len(scored.images)))).metrics
    for name, values in computed.items():
        stored, value = numbers.get(name), float(values[0])
        if stored is not None and not abs(value - stored) <= TOLERANCE:
            raise ConfigError(
                FieldProblem(
                    run.name,
                    f"task {task!r}: the files in {run.folder.predictions.name}/ give {name} {value:.6g}, but "
                    f"{run.folder.result.name} has {stored:.6g}; run `pyramidion test` again, and compare its folders",
                )
            )


def _require_same_images(
    task: str, first: OpenedRun, expected: ScoredImages, run: OpenedRun, found: ScoredImages
) -> None:
    def problem(message: str) -> ConfigError:
        return ConfigError(FieldProblem(run.name, f"task {task!r}: {message}; compare runs on the same data"))

    others, own = set(expected.images), set(found.images)
    if others != own:
        more, fewer = _names(own - others), _names(others - own)
        raise problem(f"scored {more} that {first.name} did not score, and lacks {fewer} of it")
    if set(found.classes) != set(expected.classes):
        names = sorted(set(found.classes) ^ set(expected.classes))
        raise problem(f"has other classes than {first.name}: {', '.join(names[:5])}")
    changed = {image for image in found.images if found.labels.get(image[0]) != expected.labels.get(image[0])}
    if changed:
        raise problem(f"the labels of {_names(changed)} differ from those of {first.name}")


def _names(images: set[tuple[int, str]]) -> str:
    names = [name for _, name in sorted(images)]
    return quantity(len(names), "image") + (
        f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
    )


def _compared_task(
    results: Sequence[Mapping[str, Any]], scored: Sequence[ScoredImages], num_samples: int, seed: int
) -> ComparedTask:
    kind = KINDS[results[0]["kind"]]
    sampled = _sampled(scored, num_samples, seed)
    numbers = [kind.numbers(result) for result in results]
    label = kind.class_columns[0]
    rows = [{row[label]: row for row in result["per_class"]} for result in results]
    return ComparedTask(
        kind=kind.name,
        num_images=len(scored[0].images),
        metrics=tuple(
            _compared(name, [of_run.get(name) for of_run in numbers], [scores.metrics.get(name) for scores in sampled])
            for name in kind.metrics
        ),
        per_class=tuple(
            ComparedClass(
                label=name,
                numbers=tuple(
                    _compared(
                        column,
                        [of_run.get(name, {}).get(column) for of_run in rows],
                        [scores.per_class[name][column] for scores in sampled],
                    )
                    for column in sampled[0].per_class[name]
                ),
            )
            for name in scored[0].classes
        ),
    )


def _sampled(scored: Sequence[ScoredImages], num_samples: int, seed: int) -> list[SampleScores]:
    """Return the scores of every run on the same samples."""
    num_images = len(scored[0].images)
    generator = np.random.default_rng(seed)
    size = max(1, MAX_CELLS // max(num_images, *(images.num_rows for images in scored)))
    parts: list[list[SampleScores]] = [[] for _ in scored]
    for start in range(0, num_samples, size):
        number = min(size, num_samples - start)
        counts = np.zeros((number, 0))
        if num_images:
            shares = np.full(num_images, 1 / num_images)
            counts = generator.multinomial(num_images, shares, size=number).astype(np.float64)
        for images, collected in zip(scored, parts, strict=True):
            collected.append(images.scores(counts))
    return [_joined(collected) for collected in parts]


def _joined(parts: Sequence[SampleScores]) -> SampleScores:
    return SampleScores(
        {name: np.concatenate([part.metrics[name] for part in parts]) for name in parts[0].metrics},
        {
            label: {name: np.concatenate([part.per_class[label][name] for part in parts]) for name in columns}
            for label, columns in parts[0].per_class.items()
        },
    )


def _compared(name: str, values: Sequence[float | None], sampled: Sequence[Numbers | None]) -> ComparedNumber:
    differences = [
        _difference(values[0], value, sampled[0], samples)
        for value, samples in zip(values[1:], sampled[1:], strict=True)
    ]
    return ComparedNumber(name=name, values=tuple(values), differences=tuple(differences))


def _difference(
    first: float | None, other: float | None, first_samples: Numbers | None, samples: Numbers | None
) -> RunDifference:
    """Return the difference with its interval, if most samples have one."""
    difference = None if first is None or other is None else other - first
    if difference is None or first_samples is None or samples is None:
        return RunDifference(difference=difference, low=None, high=None, excludes_zero=False)
    differences = samples - first_samples
    differences = differences[~np.isnan(differences)]
    if 2 * len(differences) <= len(samples):
        return RunDifference(difference=difference, low=None, high=None, excludes_zero=False)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(differences, [tail, 100 - tail]).tolist()
    return RunDifference(difference=difference, low=low, high=high, excludes_zero=low > 0 or high < 0)


def to_json(comparison: RunComparison) -> str:
    """Return the text that `pyramidion compare --json` prints."""
    return json.dumps(comparison.model_dump(mode="json"), allow_nan=False, indent=1, ensure_ascii=False)
