"""`fit`: one attempt at a run, from the document to the result."""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from typing import Any

from backbones.catalog.lookup import resolve
from backbones.weights_sources.defaults import default_weights_problem
from pipelines.base.cores import busy_warning
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.open_files import ensure_open_files
from pipelines.base.ranks import is_rank_zero, print_rank_zero
from pipelines.base.records import DatasetIndex
from pipelines.data.dataset.checks.report import DataReport
from pipelines.data.dataset.checks.text import render_report
from pipelines.data.dataset.index import build_index
from pipelines.data.dataset.slices import Slices
from pipelines.inference.export import export_model
from pipelines.preflight import Inputs
from pipelines.run.attempt import Attempt
from pipelines.run.calibration import calibrate
from pipelines.run.completion import Completion
from pipelines.run.conditions import score_conditions, slices_of
from pipelines.run.finalize import (
    load_best,
    score_split,
    write_run_result,
    write_split,
)
from pipelines.run.folder_setup import locked, require_same_data, write_documents
from pipelines.run.init_source import pin_version, provided_source
from pipelines.run.lightning_cli import JobCLI
from pipelines.run.open_fields import is_open, with_stored_values
from pipelines.run.plan import make_plan, render_plan
from pipelines.run.query_pictures import write_query_pictures
from pipelines.run.registration import register
from pipelines.run.run_precision import describe_precision, new_precision
from pipelines.run.sample_pictures import write_sample_pictures
from pipelines.run.tracked_run import log_result, tracked
from pipelines.run.workflow import Parts
from pipelines.run.worst_pictures import write_worst_images
from pipelines.run_folder.attempt_log import attempt_log
from pipelines.run_folder.events import EventLog, StageData
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.files import remove_folder, write_atomic
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, RunDir
from pipelines.spec.data_warnings import data_warnings
from pipelines.spec.document_warnings import document_warnings
from pipelines.spec.job import JobSpec
from pipelines.spec.load import resolved, write_yaml
from pipelines.tasks.thresholds import best_thresholds
from pipelines.training.aggregation import require_aggregation_fits
from pipelines.training.budget import Clock, stopwatch
from pipelines.training.compilation import require_compilation_fits
from pipelines.training.launcher import supervised_ranks
from pipelines.training.module import MultiTaskModule
from pipelines.training.stopping import StopRequest
from pipelines.training.strategy import close_ranks
from pipelines.training.trainer import accelerator_of, num_processes, require_nodes, require_synced_batch_norm
from pipelines.training.worker_deaths import explained_worker_deaths


def fit(
    job: JobSpec,
    document: dict[str, Any],
    inputs: Inputs,
    run_dir: RunDir,
    options: Mapping[str, Any] | None = None,
    stop: StopRequest | None = None,
    started: float | None = None,
    comment: str = "",
) -> None:
    """Train, score the best checkpoint once, write the result, register the model.

    Called again, it resumes an attempt that was stopped or killed from its last checkpoint.

    Args:
        job: the validated document.
        document: the document as the user wrote it.
        inputs: what the names in the document refer to.
        run_dir: a new folder, or that of an earlier attempt at the same job.
        options: values of the command's options, for LightningCLI's configuration.
        stop: requests to stop, if the caller handles signals already.
        started: the time of `time.monotonic` from which `trainer.budget` counts; None: now.
        comment: text about the document, for the file in the run folder.

    Raises:
        ConfigError, DataError: before anything is started.
        RegistryError: before anything is started: MLflow does not deliver the model that the run starts from.
        NumericsError: a loss is not finite.
        OutOfMemory: a batch does not fit the device's memory.
        Stopped: on request; a checkpoint is written.
    """
    JobCLI(FitWorkflow(document, inputs, run_dir, stop, stopwatch(started), comment), job, options)


class FitWorkflow:
    """The workflow of `fit`, see there for the arguments."""

    command = "fit"

    def __init__(
        self,
        document: dict[str, Any],
        inputs: Inputs,
        run_dir: RunDir,
        stop: StopRequest | None = None,
        clock: Clock | None = None,
        comment: str = "",
    ) -> None:
        self.document = document
        self.inputs = inputs
        self.run_dir = run_dir
        self.stop = stop or StopRequest()
        self.clock = clock or stopwatch()
        self.comment = comment
        self.slices: Slices = {}
        self._attempt: Attempt | None = None

    @property
    def attempt(self) -> Attempt:
        """The attempt; it exists after `set_up`."""
        assert self._attempt is not None
        return self._attempt

    @contextmanager
    def set_up(self, job: JobSpec) -> Iterator[None]:
        """Lock the folder, write the documents, check the data, and open the attempt."""
        self.stop.install()
        busy = busy_warning()
        _check_machine(job, is_new=not self.run_dir.last_checkpoint.exists())
        with locked(self.run_dir) if is_rank_zero() else nullcontext(), attempt_log(self.run_dir):
            if is_rank_zero():
                self.inputs = pin_version(self.inputs)
                write_documents(self.run_dir, self.document, job, self.inputs, new_precision(job.trainer), self.comment)
                with closing(EventLog(self.run_dir.events)) as events:
                    events.write(StageData(stage="validating_data"))
            index, report = self._check_data(job)
            job = self._completed(job, index)
            self.stop.wait_for_checks()
            self._attempt = Attempt(job, self.inputs, index, report, self.run_dir, self.stop, self.clock)
            # Read before training, so that a table which changes meanwhile does not matter.
            self.slices = slices_of(job, self.inputs.data, index.records[self._attempt.split])
            if busy and accelerator_of(job.trainer) == "cpu":
                self._attempt.warn(busy)
            with (
                tracked(self._attempt),
                provided_source(self.inputs, self.run_dir),
                supervised_ranks(),
                explained_worker_deaths(job.data),
            ):
                yield

    def _check_data(self, job: JobSpec) -> tuple[DatasetIndex, DataReport]:
        index, report = build_index(job, self.inputs.data)
        if is_rank_zero():
            require_same_data(self.run_dir, report)
            report.write(self.run_dir.data_report)
            print_rank_zero(render_report(report))
        report.raise_errors()
        return index, report

    def _completed(self, job: JobSpec, index: DatasetIndex) -> JobSpec:
        """Return the document with the values that it leaves to a measurement, which a new run makes on rank 0."""
        if not is_open(job):
            return job
        if is_rank_zero() and not (self.run_dir.last_checkpoint.exists() and self.run_dir.measured.exists()):
            with closing(EventLog(self.run_dir.events)) as events:
                events.write(StageData(stage="measuring"))
                completion = Completion(job, self.document, index, new_precision(job.trainer), self.clock)
                completion.measure(self.clock).write(self.run_dir.measured)
                for message in completion.messages:
                    print_rank_zero(message)
                    events.write(StageData(stage="measuring", message=message))
        completed = with_stored_values(job, self.run_dir)
        if is_rank_zero():
            write_atomic(self.run_dir.config_yaml, write_yaml(resolved(completed)))
        return completed

    def build(self) -> Parts:
        """Return module, data and trainer of the attempt."""
        return self.attempt.build()

    def run(self, parts: Parts) -> None:
        """Train and score, unless an earlier attempt has written the result; then track and register."""
        if not self.run_dir.result.exists():
            train_and_score(self.attempt, parts, self.slices)
        if is_rank_zero():
            log_result(self.attempt)
            register(self.attempt)
            print_rank_zero(f"result in {self.run_dir.result}")
            if ATTEMPT_DIR_VARIABLE not in os.environ:
                run_dir = shlex.quote(str(self.run_dir.path))
                print_rank_zero(f"Next:\n  pyramidion predict --run-dir {run_dir} IMAGE_OR_FOLDER --draw")


def _check_machine(job: JobSpec, *, is_new: bool) -> None:
    require_nodes(job.trainer)
    num_processes(job.trainer)
    ensure_open_files(job.data.num_workers)
    require_aggregation_fits(job)
    require_synced_batch_norm(job.trainer)
    require_compilation_fits(job)
    backbone = job.model.backbone
    # Which parts of the backbone init_from contains is known when it is read; default weights may not be needed.
    if not is_new or job.model.init_from is not None:
        return
    if backbone.weights == "default" and (problem := default_weights_problem(resolve(backbone.network))):
        raise ConfigError(FieldProblem("model.backbone.weights", problem))


def train_and_score(attempt: Attempt, parts: Parts, slices: Slices) -> None:
    """Train to the end, score the best checkpoint, also on slices of its split, and write the result."""
    attempt.start_stage("training")
    module, data, trainer = parts
    assert data is not None
    _print_plan(attempt, module)
    checkpoint = attempt.run_dir.last_checkpoint if attempt.run_dir.last_checkpoint.exists() else None
    if checkpoint:
        print_rank_zero(f"resuming from {checkpoint}")
    else:
        processes = num_processes(attempt.job.trainer)
        for warning in (*document_warnings(attempt.job), *data_warnings(attempt.job, attempt.index, processes)):
            attempt.warn(warning)
    if attempt.tracker is not None:
        # Data workers are forked below, which must not happen while a thread is importing.
        attempt.tracker.imported.wait(30)
    with attempt.memory.explaining():
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    # A budget changes the number of epochs.
    num_epochs = trainer.max_epochs or 0
    if num_epochs % attempt.job.trainer.check_val_every_n_epoch and not trainer.should_stop:
        trainer.validate(module, dataloaders=data.evaluation_loaders("val"), verbose=False)
    trainer.strategy.barrier()
    best = load_best(module, attempt.run_dir)
    if attempt.job.evaluation.calibrate == "temperature":
        best = calibrate(attempt, module, data, trainer, best)
    attempt.scoring.best_thresholds = thresholds = best_thresholds(attempt.job.model.tasks, best["val"]["tasks"])
    attempt.start_stage("evaluating")
    scored = score_split(attempt, trainer, module, data, attempt.split)
    corruptions = attempt.job.evaluation.corruptions
    conditions = score_conditions(attempt, module, data, trainer, scored, slices, corruptions=corruptions)
    close_ranks()
    if is_rank_zero():
        write_split(attempt, scored)
        if attempt.job.evaluation.plots:
            write_sample_pictures(attempt, attempt.split, scored.predictions, thresholds)
            write_query_pictures(attempt, attempt.split, scored.scores.tasks)
        write_worst_images(attempt, attempt.split, scored.scores.tasks)
        export_model(module.model, attempt.job, attempt.index.categories, attempt.run_dir.model, thresholds)
        remove_folder(ExportsDir.of(attempt.run_dir.path).path)  # of earlier weights
        write_run_result(attempt, module, best, scored, conditions)


def _print_plan(attempt: Attempt, module: MultiTaskModule) -> None:
    backbone = module.model.backbone
    if backbone.weights_origin:
        loaded = f": {backbone.weights_report}" if backbone.weights_report else ""
        print_rank_zero(f"weights from {backbone.weights_origin}{loaded}")
    spec, trainer = attempt.job.model, attempt.job.trainer
    print_rank_zero(render_plan(make_plan(module.model, spec, {"balance": module.balance}), spec.schedule))
    precision = describe_precision(attempt.precision.name, module.model)
    print_rank_zero(f"run folder {attempt.run_dir.path}; {num_processes(trainer)} process(es), {precision}")
