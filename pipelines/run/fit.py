"""One attempt, from document to result."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Any

from backbones.catalog.lookup import resolve
from backbones.default_weights import default_weights_problem
from pipelines.data.dataset.checks.text import render_report
from pipelines.data.dataset.index import build_index
from pipelines.errors import ConfigError, FieldProblem, Stopped
from pipelines.inference.export import export_model
from pipelines.preflight import Inputs
from pipelines.ranks import is_rank_zero, print_rank_zero
from pipelines.run.attempt import Attempt
from pipelines.run.beginning import registered_at_hand, with_version
from pipelines.run.claim import held, require_same_data, write_documents
from pipelines.run.finish import (
    load_best,
    register,
    score_split,
    track,
    write_run_result,
    write_sample_pictures,
    write_split,
)
from pipelines.run.job_cli import JobCLI
from pipelines.run.plan import make_plan, render_plan
from pipelines.run_folder.attempt_log import attempt_log
from pipelines.run_folder.events import EventLog, StageData
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.tracking_files import RunStatus
from pipelines.spec.doubts import doubts
from pipelines.spec.job import JobSpec
from pipelines.tracking.mlflow_names import flatten
from pipelines.training.aggregation import require_aggregation_fits
from pipelines.training.launcher import supervised_ranks
from pipelines.training.stopping import StopRequest
from pipelines.training.strategy import close_ranks
from pipelines.training.trainer import num_processes, precision_of, quiet_lightning, require_synced_batch_norm


def fit(job: JobSpec, asked: dict[str, Any], inputs: Inputs, run_dir: RunDir) -> None:
    """Train, score the best checkpoint once, write the result, register the model.

    An attempt that was stopped or killed goes on from its last checkpoint when this is called again.

    Args:
        job: the checked document.
        asked: the document as it was given.
        inputs: what its names stand for.
        run_dir: new, or of an earlier attempt at the same job.

    Raises:
        ConfigError, DataError: before anything is started.
        RegistryError: before anything is started: MLflow does not hand out the model that the run begins from.
        NumericsError: a loss is not finite.
        OutOfMemory: a batch does not fit the device's memory.
        Stopped: on request; a checkpoint is written.
    """
    stop = StopRequest()
    stop.install()
    quiet_lightning()
    _check_machine(job, is_new=not run_dir.last_checkpoint.exists())
    with held(run_dir) if is_rank_zero() else nullcontext(), attempt_log(run_dir):
        if is_rank_zero():
            inputs = with_version(inputs)
            write_documents(run_dir, asked, job, inputs)
            with closing(EventLog(run_dir.events)) as events:
                events.write(StageData(stage="validating_data"))
        index, report = build_index(job, inputs.data)
        if is_rank_zero():
            require_same_data(run_dir, report)
            report.write(run_dir.data_report)
            print_rank_zero(render_report(report))
        report.raise_errors()
        stop.check("before training")
        attempt = Attempt(job, inputs, index, report, run_dir, stop)
        with _tracked(attempt), registered_at_hand(inputs, run_dir), supervised_ranks():
            _fit(attempt)


def _check_machine(job: JobSpec, *, is_new: bool) -> None:
    num_processes(job.trainer)
    require_aggregation_fits(job)
    require_synced_batch_norm(job.trainer)
    backbone = job.model.backbone
    # What init_from holds of the backbone is known when it is read; only what it lacks is fetched.
    if not is_new or job.model.init_from is not None:
        return
    if backbone.weights == "default" and (problem := default_weights_problem(resolve(backbone.network))):
        raise ConfigError(FieldProblem("model.backbone.weights", problem))


@contextmanager
def _tracked(attempt: Attempt) -> Iterator[None]:
    """Give the MLflow run its final status."""
    if attempt.tracker is None:
        yield
        return
    attempt.tracker.log_params(flatten(attempt.job))
    if attempt.inputs.init_from is not None:
        attempt.tracker.log_tags({"init_from": attempt.inputs.init_from})
    attempt.tracker.log_tags({f"fingerprint.{split}": text for split, text in attempt.report.fingerprints.items()})
    status: RunStatus = "FAILED"
    try:
        yield
        status = "FINISHED"
    except (Stopped, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        attempt.tracker.close(status)


def _fit(attempt: Attempt) -> None:
    cli = JobCLI(attempt)
    if not attempt.run_dir.result.exists():
        _train_and_score(attempt, cli)
    if is_rank_zero():
        track(attempt)
        register(attempt)
        print_rank_zero(f"result in {attempt.run_dir.result}")


def _train_and_score(attempt: Attempt, cli: JobCLI) -> None:
    attempt.stage("training")
    module, data, trainer, run_dir = cli.model, cli.datamodule, cli.trainer, attempt.run_dir
    if report := module.model.backbone.weights_report:
        print_rank_zero(str(report))
    model = attempt.job.model
    print_rank_zero(render_plan(make_plan(module.model, model, {"balance": module.balance}), model.schedule))
    spec = attempt.job.trainer
    print_rank_zero(f"run folder {run_dir.path}; {num_processes(spec)} process(es), {precision_of(spec)}")
    checkpoint = run_dir.last_checkpoint if run_dir.last_checkpoint.exists() else None
    if checkpoint:
        print_rank_zero(f"going on from {checkpoint}")
    else:
        for doubt in doubts(attempt.job):
            attempt.warn(doubt)
    if attempt.tracker is not None:
        # Data workers are forked below, which must not happen while a thread is inside an import.
        attempt.tracker.imported.wait(30)
    with attempt.memory.explaining():
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    if spec.max_epochs % spec.check_val_every_n_epoch and not trainer.should_stop:
        trainer.validate(module, dataloaders=data.evaluation_loaders("val"), verbose=False)
    trainer.strategy.barrier()
    best = load_best(module, run_dir)
    attempt.stage("evaluating")
    seconds = score_split(attempt, trainer, module, data, attempt.split)
    close_ranks()
    if is_rank_zero():
        write_split(attempt, attempt.split)
        write_sample_pictures(attempt, attempt.split)
        export_model(module.model, attempt.job, attempt.index.categories, run_dir.model)
        write_run_result(attempt, module, best, attempt.split, seconds)
