"""A run that has a checkpoint: its document, its weights, its data, and a folder for new results.

Nothing that the run wrote is changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from pipelines.base.clock import folder_timestamp
from pipelines.base.errors import ConfigError, DataError, FieldProblem
from pipelines.base.ranks import is_rank_zero, num_nodes
from pipelines.base.records import Category, DatasetIndex, Split
from pipelines.data.dataset.checks.report import DataReport
from pipelines.data.dataset.index import build_index
from pipelines.inference.saved import has_average, network_state, read_checkpoint
from pipelines.model import MultiTaskModel, build_model, fold_as_configured
from pipelines.preflight import Inputs, Places, preflight
from pipelines.run.folder_setup import read_inputs
from pipelines.run_folder.layout import RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.load import load_job
from pipelines.tasks.base import BestThresholds
from pipelines.tasks.thresholds import best_thresholds

Overrides = Sequence[tuple[str, str]]
"""Dotted names with YAML texts, see `pipelines.spec.load.load_job`."""

Weights = Literal["best", "last", "averaged"]
"""best.ckpt; last.ckpt as trained; or the moving average in last.ckpt."""


@dataclass(frozen=True)
class SavedRun:
    """The weights of a run.

    Attributes:
        state: of the network, under the names of `MultiTaskModel`.
        categories: by task, in the order of the labels.
        val_tasks: scores of these weights on val, by task; None except for the best weights.
        temperatures: of calibrated scores by task; empty except for the best weights.
    """

    run_dir: RunDir
    job: JobSpec
    weights: Weights
    state: Mapping[str, Tensor]
    epoch: int
    step: int
    categories: dict[str, list[Category]]
    val_tasks: Mapping[str, Any] | None
    temperatures: Mapping[str, float] = field(default_factory=dict)

    @property
    def best_thresholds(self) -> dict[str, BestThresholds]:
        """By task, those of these weights on val; empty where they are unknown."""
        return best_thresholds(self.job.model.tasks, self.val_tasks or {})

    def network(self) -> MultiTaskModel:
        """Return the network with these weights, folded if the document asks for it; no data is read."""
        model = build_model(self.job.model, self.categories)
        model.load_state_dict(self.state)
        fold_as_configured(model, self.job.model)
        model.temperatures = dict(self.temperatures)
        return model


def load_document(path: Path, overrides: Overrides = ()) -> tuple[RunDir, JobSpec]:
    """Return a run's folder and its document with the overrides, for the nodes that this command runs on.

    Raises:
        ConfigError: the run has no best checkpoint.
    """
    run_dir = RunDir.of(path.resolve())
    if not run_dir.config_yaml.exists():
        raise ConfigError(
            FieldProblem("--run-dir", f"{run_dir.path} is not a run folder; name one that fit has written")
        )
    if not run_dir.best_checkpoint.exists():
        raise ConfigError(
            FieldProblem("--run-dir", f"{run_dir.path} has no best checkpoint yet; let fit reach a validation")
        )
    nodes = ("trainer.num_nodes", str(num_nodes()))
    return run_dir, load_job([str(run_dir.config_yaml)], [nodes, *overrides])


def load_run(run_dir: RunDir, job: JobSpec, weights: Weights = "best") -> SavedRun:
    """Return the weights of a run.

    Args:
        run_dir: its folder.
        job: its document.
        weights: the weights to load.

    Raises:
        ConfigError: the run does not have them.
    """
    best = read_checkpoint(run_dir.best_checkpoint, "--run-dir")
    categories = {task: [Category(*pair) for pair in pairs] for task, pairs in best["categories"].items()}
    if weights == "best":
        return SavedRun(
            run_dir,
            job,
            weights,
            best["state_dict"],
            best["epoch"],
            best["step"],
            categories,
            best["val"]["tasks"],
            best.get("temperatures", {}),
        )
    if not run_dir.last_checkpoint.exists():
        raise ConfigError(FieldProblem("--weights", f"got {weights}; {run_dir.path} has no last.ckpt, write best"))
    last = read_checkpoint(run_dir.last_checkpoint, "--run-dir")
    if weights == "averaged" and not has_average(last):
        remedy = "write best or last; a run whose document has model.ema keeps an average"
        raise ConfigError(
            FieldProblem("--weights", f"got averaged; {run_dir.path} keeps no averaged weights: {remedy}")
        )
    state = network_state(last, raw=weights == "last")
    return SavedRun(run_dir, job, weights, state, last["epoch"], last["global_step"], categories, None)


def load_data(run_dir: RunDir, job: JobSpec, split: Split, places: Places) -> tuple[Inputs, DatasetIndex, DataReport]:
    """Return the data of a run: that in `places` if any are given, else the data that the run was trained on.

    Raises:
        ConfigError: the data is not found.
        DataError: it has errors, or lacks the split.
    """
    inputs = _inputs(run_dir, job, places)
    index, report = build_index(job, inputs.data)
    report.raise_errors()
    require_images(index, split)
    return inputs, index, report


def require_images(index: DatasetIndex, split: Split) -> None:
    """Raise DataError if the data has no images of a split."""
    if not index.records.get(split):
        others = [name for name, records in index.records.items() if records]
        message = f"the data has no images of the split {split}; it has {', '.join(others)}"
        raise DataError(FieldProblem("data.sources", message))


def _inputs(run_dir: RunDir, job: JobSpec, places: Places) -> Inputs:
    earlier = read_inputs(run_dir)
    if not places.are_given and earlier is not None and earlier.data.is_dir():
        return earlier
    backbone = job.model.backbone.model_copy(update={"weights": "none"})
    model = job.model.model_copy(update={"backbone": backbone, "init_from": None})
    return preflight(job.model_copy(update={"model": model}), places)


def new_output(run_dir: RunDir, command: str) -> RunDir:
    """Return the run with a new results folder `eval/<command>-<time>`, which rank 0 creates."""
    name = f"{command}-{folder_timestamp()}"
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        new = run_dir.for_evaluation(name + suffix)
        try:
            if is_rank_zero():
                new.output.mkdir(parents=True)
            return new
        except FileExistsError:
            continue
    raise ConfigError(FieldProblem("--run-dir", f"{run_dir.evaluations} is full of {name}; wait a second"))
