"""`validate` and `test`: score the weights of a run on a split."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.ranks import is_rank_zero, print_rank_zero
from pipelines.base.records import Split
from pipelines.command_line.evaluation_options import EvaluationRequest
from pipelines.data.dataset.slices import Slices
from pipelines.evaluation.conditions import ConditionScores, condition_metrics
from pipelines.evaluation.metric_names import selection
from pipelines.evaluation.plots import write_condition_plots
from pipelines.evaluation.result import build_result, write_result
from pipelines.evaluation.tables import print_conditions, print_results
from pipelines.preflight import Places
from pipelines.run.attempt import Attempt
from pipelines.run.conditions import score_conditions, slices_of
from pipelines.run.finalize import ScoredSplit, float32_facts, score_split, write_split
from pipelines.run.lightning_cli import JobCLI
from pipelines.run.query_pictures import write_query_pictures
from pipelines.run.saved_run import Overrides, SavedRun, Weights, load_data, load_document, load_run, new_output
from pipelines.run.versions import package_versions
from pipelines.run.workflow import Parts
from pipelines.run.worst_pictures import write_worst_images
from pipelines.run_folder.layout import RunDir, runs_root
from pipelines.spec.job import JobSpec
from pipelines.tracking.evaluation_log import log_evaluation
from pipelines.tracking.mlflow_store import find_store
from pipelines.training.checkpoints import EvaluationStop
from pipelines.training.launcher import supervised_ranks
from pipelines.training.module import MultiTaskModule
from pipelines.training.stopping import StopRequest
from pipelines.training.strategy import close_ranks
from pipelines.training.trainer import create_trainer, precision_of
from pipelines.training.worker_deaths import explained_worker_deaths


def score_run(
    command: str,
    path: Path,
    split: Split,
    places: Places,
    overrides: Overrides = (),
    weights: Weights = "best",
    options: Mapping[str, Any] | None = None,
    stop: StopRequest | None = None,
    request: EvaluationRequest | None = None,
) -> None:
    """Score a run's weights on a split, into `eval/<command>-<time>/` of its folder.

    Args:
        command: validate or test.
        path: folder of the run.
        split: the split to score.
        places: where to look for the data; by default it is where it was for training.
        overrides: fields of the document's `trainer` section.
        weights: the weights to score.
        options: values of the command's options, for LightningCLI's configuration.
        stop: requests to stop, if the caller handles signals already.
        request: measurements beside those of the document.

    Raises:
        Stopped: on request; nothing is written.
        ConfigError: the run does not have these weights.
        DataError: its data has errors, other classes than in training, or lacks the split.
    """
    run_dir, job = load_document(path, overrides)
    workflow = ScoreWorkflow(command, run_dir, split, places, weights, stop or StopRequest(), request)
    JobCLI(workflow, job, {"run_dir": str(path), **(options or {})})


class ScoreWorkflow:
    """The workflow of `validate` and `test`, see `score_run` for the arguments."""

    def __init__(
        self,
        command: str,
        run_dir: RunDir,
        split: Split,
        places: Places,
        weights: Weights,
        stop: StopRequest,
        request: EvaluationRequest | None = None,
    ) -> None:
        self.command = command
        self.run_dir = run_dir
        self.split = split
        self.places = places
        self.weights = weights
        self.stop = stop
        self.request = request or EvaluationRequest()
        self.slices: Slices = {}
        self._opened: tuple[SavedRun, Attempt] | None = None

    @property
    def opened(self) -> tuple[SavedRun, Attempt]:
        """The saved run and the attempt at scoring it; they exist after `set_up`."""
        assert self._opened is not None
        return self._opened

    @contextmanager
    def set_up(self, job: JobSpec) -> Iterator[None]:
        """Load the weights, check the data, and create the folder of the results."""
        saved = load_run(self.run_dir, job, self.weights)
        inputs, index, report = load_data(self.run_dir, job, self.split, self.places)
        if saved.categories != index.categories:
            raise DataError(
                FieldProblem(
                    "data.sources",
                    "the data has other classes than the run was trained on; name the run's own data by --data.root",
                )
            )
        self.slices = slices_of(job, inputs.data, index.records[self.split], self.request)
        self.stop.wait_for_checks()
        output = new_output(self.run_dir, self.command)
        untracked = job.model_copy(update={"tracking": None})
        self._opened = saved, Attempt(untracked, inputs, index, report, output, self.stop)
        with supervised_ranks(), explained_worker_deaths(job.data):
            yield

    def build(self) -> Parts:
        """Return the module with the saved weights, the data, and a trainer that scores."""
        saved, attempt = self.opened
        trainer = create_trainer(saved.job.trainer, [EvaluationStop(attempt.stop), attempt.scoring])
        module = MultiTaskModule(saved.job.model, saved.network(), saved.job.seed_everything)
        return Parts(module, attempt.data(saved.job.data), trainer)

    def run(self, parts: Parts) -> None:
        """Score the split, and write and print the result."""
        saved, attempt = self.opened
        assert parts.data is not None
        if self.split != "val":
            attempt.scoring.best_thresholds = saved.best_thresholds
        scored = score_split(attempt, parts.trainer, parts.module, parts.data, self.split)
        corruptions = self.request.corruptions or saved.job.evaluation.corruptions
        conditions = score_conditions(
            attempt, parts.module, parts.data, parts.trainer, scored, self.slices, corruptions=corruptions
        )
        close_ranks()
        if is_rank_zero():
            write_split(attempt, scored)
            if saved.job.evaluation.plots:
                write_query_pictures(attempt, self.split, scored.scores.tasks)
            write_worst_images(attempt, self.split, scored.scores.tasks)
            _write_result(saved, attempt, parts.module, scored, conditions)


def _write_result(
    saved: SavedRun, attempt: Attempt, module: MultiTaskModule, scored: ScoredSplit, conditions: ConditionScores
) -> None:
    scores = scored.scores
    val_tasks = scores.tasks if saved.val_tasks is None and scores.split == "val" else saved.val_tasks
    prefix = "best_" if saved.weights == "best" else ""
    result = build_result(
        split=scores.split,
        tasks=scores.tasks,
        val_tasks=val_tasks,
        select=selection(saved.job.model),
        data=attempt.report.left_out,
        model={
            "weights": saved.weights,
            f"{prefix}epoch": saved.epoch,
            f"{prefix}step": saved.step,
            "precision": precision_of(saved.job.trainer),
            **float32_facts(module),
        },
        timing={"eval_s": round(scored.seconds, 3)},
        versions=package_versions(),
        corruptions=conditions.corruptions,
        slices=conditions.slices,
    )
    path = attempt.run_dir.result
    write_result(path, result)
    print_results(scores.split, scores.tasks)
    print_conditions(saved.job.model, result)
    if saved.job.evaluation.plots:
        write_condition_plots(attempt.run_dir.plots, saved.job.model, result)
    if saved.job.tracking is not None and saved.weights == "best" and (conditions.corruptions or conditions.slices):
        metrics = condition_metrics(saved.job.model, result)
        log_evaluation(find_store(runs_root()), attempt.run_dir, metrics, saved.step, attempt.warn)
    print_rank_zero(f"result in {path}")
