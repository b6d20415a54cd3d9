"""Going back to a run: score or use its weights, mostly the best. Nothing of the run itself is changed."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pipelines.data.dataset.images import read_image
from pipelines.data.dataset.index import build_index
from pipelines.errors import ConfigError, DataError, FieldProblem
from pipelines.evaluation.metric_names import selection
from pipelines.evaluation.result import build_result, write_result
from pipelines.evaluation.tables import print_results
from pipelines.inference.picture import draw_answer
from pipelines.inference.predictor import Predictor, expected_exif
from pipelines.inference.saved import has_average, network_state, read_checkpoint
from pipelines.model import MultiTaskModel, build_model, fold_as_configured
from pipelines.paths import IMAGE_SUFFIXES
from pipelines.preflight import Inputs, Places, preflight
from pipelines.ranks import is_rank_zero, say
from pipelines.records import Category, Split
from pipelines.run.attempt import Attempt, versions
from pipelines.run.claim import read_inputs
from pipelines.run.finish import score_split, write_split
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.load import load_job
from pipelines.training.launcher import ranks
from pipelines.training.module import MultiTaskModule
from pipelines.training.stopping import StopRequest
from pipelines.training.strategy import close_ranks
from pipelines.training.trainer import create_trainer, quiet_lightning

Overrides = Sequence[tuple[str, str]]
"""Dotted names and YAML texts, see `pipelines.spec.load.load_job`."""

Weights = Literal["best", "last", "averaged"]
"""Of which checkpoint: best.ckpt, or last.ckpt as it is trained, or its moving average."""

OpenedRun = tuple[RunDir, JobSpec, dict[str, Any]]
"""A run's folder, its document, and the content of its best checkpoint with the name of the `weights`; of others than
the best ones `state_dict`, `epoch` and `step` are theirs, and `val`, their numbers on val, is None."""


def open_run(path: Path, overrides: Overrides = (), weights: Weights = "best") -> OpenedRun:
    """Return a run's folder, document with overrides, and checkpoint; raises ConfigError where it has none."""
    run_dir = RunDir.of(path.resolve())
    if not run_dir.config_yaml.exists():
        raise ConfigError(FieldProblem("--run_dir", f"{run_dir.path} is no run folder; name one that fit has written"))
    if not run_dir.best_checkpoint.exists():
        raise ConfigError(
            FieldProblem("--run_dir", f"{run_dir.path} has no best checkpoint yet; let fit reach a validation")
        )
    job = load_job([str(run_dir.config_yaml)], overrides)
    best = read_checkpoint(run_dir.best_checkpoint, "--run_dir")
    return run_dir, job, best | {"weights": weights} | ({} if weights == "best" else _last(run_dir, weights))


def _last(run_dir: RunDir, weights: Weights) -> dict[str, Any]:
    if not run_dir.last_checkpoint.exists():
        raise ConfigError(FieldProblem("--weights", f"got {weights}; {run_dir.path} has no last.ckpt, write best"))
    last = read_checkpoint(run_dir.last_checkpoint, "--run_dir")
    if weights == "averaged" and not has_average(last):
        remedy = "write best or last; a run whose document has model.ema keeps an average"
        raise ConfigError(
            FieldProblem("--weights", f"got averaged; {run_dir.path} keeps no averaged weights: {remedy}")
        )
    state = network_state(last, raw=weights == "last")
    return {"state_dict": state, "epoch": last["epoch"], "step": last["global_step"], "val": None}


def best_model(job: JobSpec, best: Mapping[str, Any]) -> tuple[MultiTaskModel, dict[str, list[Category]]]:
    """Return the network of `open_run`'s checkpoint, folded where the document says so, and its categories by task; no
    data is read."""
    categories = {task: [Category(*pair) for pair in pairs] for task, pairs in best["categories"].items()}
    model = build_model(job.model, categories)
    model.load_state_dict(best["state_dict"])
    fold_as_configured(model, job.model)
    return model, categories


def _new_output(run_dir: RunDir, command: str) -> RunDir:
    """Return the run with a results folder that is this command's alone; on further ranks, which write nothing, the
    folder is not made."""
    name = f"{command}-{time.strftime('%Y%m%d-%H%M%S')}"
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        new = run_dir.for_evaluation(name + suffix)
        try:
            if is_rank_zero():
                new.output.mkdir(parents=True)
            return new
        except FileExistsError:
            continue
    raise ConfigError(FieldProblem("--run_dir", f"{run_dir.path / 'eval'} is full of {name}; wait a second"))


def _inputs(run_dir: RunDir, job: JobSpec, places: Places) -> Inputs:
    """Return the data that the run was trained on, unless other places are named."""
    earlier = read_inputs(run_dir)
    if not places.are_told and earlier is not None and earlier.data.is_dir():
        return earlier
    backbone = job.model.backbone.model_copy(update={"weights": "none"})
    model = job.model.model_copy(update={"backbone": backbone, "init_from": None})
    return preflight(job.model_copy(update={"model": model}), places)


def score_run(
    command: str, path: Path, split: Split, places: Places, overrides: Overrides = (), weights: Weights = "best"
) -> None:
    """Score a run's weights on a split, below `eval/<command>-<time>/`.

    Args:
        command: validate or test.
        path: of the run.
        split: of its data.
        places: where the data lies, where it is not where it was.
        overrides: of the document's `trainer`: on what to score.
        weights: which ones.

    Raises:
        ConfigError: the run has no such checkpoint.
        DataError: its data has errors, other classes, or no such split.
    """
    quiet_lightning()
    run_dir, job, best = open_run(path, overrides, weights)
    inputs = _inputs(run_dir, job, places)
    index, report = build_index(job, inputs.data)
    report.raise_errors()
    if not index.records.get(split):
        raise DataError(
            FieldProblem("data.sources", f"the data has no {split} split; it has {', '.join(index.records)}")
        )
    model, categories = best_model(job, best)
    if categories != index.categories:
        raise DataError(
            FieldProblem(
                "data.sources",
                "the data has other classes than the run was trained on; name its own data by --data.root",
            )
        )
    output = _new_output(run_dir, command)
    attempt = Attempt(job.model_copy(update={"tracking": None}), inputs, index, report, output, StopRequest())
    trainer = create_trainer(job.trainer, [attempt.scoring])
    module = MultiTaskModule(job.model, model, job.seed_everything)
    with ranks():
        seconds = score_split(attempt, trainer, module, attempt.data(job.data), split)
        close_ranks()
    scores = attempt.scoring.scores
    if not is_rank_zero() or scores is None:
        return
    write_split(attempt, split)
    result = build_result(
        split=split,
        tasks=scores.tasks,
        val_tasks=best["val"]["tasks"] if best["val"] else scores.tasks if split == "val" else None,
        select=selection(job.model),
        model={"weights": best["weights"], **_named(best, "best_" if weights == "best" else "")},
        timing={"eval_s": round(seconds, 3)},
        versions=versions(),
    )
    write_result(output.result, result)
    print_results(split, scores.tasks)
    say(f"result in {output.result}")


def _named(checkpoint: Mapping[str, Any], prefix: str) -> dict[str, int]:
    return {f"{prefix}{name}": checkpoint[name] for name in ("epoch", "step")}


def predict_images(path: Path, images: Sequence[Path], *, draw: bool, weights: Weights = "best") -> None:
    """Answer for image files (and all images of folders) with a run's weights, see `_predict`."""
    files = [file for image in images for file in _files(image)]
    _predict(open_run(path, weights=weights), files, draw=draw)


def predict_split(path: Path, split: Split, places: Places, *, draw: bool, weights: Weights = "best") -> None:
    """Answer for all images of a split of the run's data, see `_predict`."""
    opened = open_run(path, weights=weights)
    run_dir, job, _ = opened
    index, report = build_index(job, _inputs(run_dir, job, places).data)
    report.raise_errors()
    if not index.records.get(split):
        raise DataError(
            FieldProblem("data.sources", f"the data has no {split} split; it has {', '.join(index.records)}")
        )
    _predict(opened, [record.path for record in index.records[split]], draw=draw)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise DataError(FieldProblem("--images", f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})"))
        return found
    if not path.is_file():
        raise DataError(FieldProblem("--images", f"there is no file {str(path)!r}"))
    return [path]


def _predict(opened: OpenedRun, files: Sequence[Path], *, draw: bool) -> None:
    """Write `eval/predict-<time>/predictions.json`, [{"file", "image", "tasks"}] with `tasks` as the predict endpoint
    answers, and with `draw` a picture an image below `pictures/`; print the paths."""
    run_dir, job, best = opened
    model, categories = best_model(job, best)
    answers = Predictor(model, job, categories).predict(list(files))
    say(f"weights: {best['weights']}, of epoch {best['epoch']}, step {best['step']}")
    output = _new_output(run_dir, "predict").output
    rows = [{"file": str(file), **answer} for file, answer in zip(files, answers, strict=True)]
    write_atomic(output / "predictions.json", json.dumps(rows, indent=1, allow_nan=False) + "\n")
    print(output / "predictions.json")
    if draw:
        (output / "pictures").mkdir()
        for number, (file, answer) in enumerate(zip(files, answers, strict=True)):
            target = output / "pictures" / f"{number:04d}_{file.stem}.png"
            draw_answer(read_image(file, expected_exif(job.data)), answer, job.model, categories).save(target)
            print(target)
