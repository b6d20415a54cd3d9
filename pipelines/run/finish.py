"""The end of a run: the best checkpoint is scored once, written down, exported and registered."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from pipelines.data.dataset.images import read_image
from pipelines.data.loading.datamodule import JobData
from pipelines.errors import ConfigError, RegistryError
from pipelines.evaluation.metric_names import selection
from pipelines.evaluation.plots import write_plots
from pipelines.evaluation.result import build_result, write_result
from pipelines.evaluation.tables import print_results
from pipelines.evaluation.writers import write_ground_truth, write_predictions
from pipelines.inference.export import load_exported
from pipelines.model import fold_as_configured
from pipelines.pictures import draw_boxes
from pipelines.ranks import say
from pipelines.records import Split
from pipelines.run.attempt import Attempt, git_commit, versions
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.spec.model import ModelSpec
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.kinds import kind_of
from pipelines.tasks.tensors.runtime import runtime_of
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from pipelines.training.checkpoints import EvaluationStop
from pipelines.training.module import MultiTaskModule
from pipelines.training.trainer import create_trainer

NUM_SAMPLE_PICTURES = 8


def load_best(module: MultiTaskModule, run_dir: RunDir) -> dict[str, Any]:
    """Load the best checkpoint's weights into the network, folded where the document says so, and return what else the
    checkpoint holds (see `scoring.Best`)."""
    content: dict[str, Any] = torch.load(run_dir.best_checkpoint, map_location="cpu", weights_only=True)
    module.model.load_state_dict(content.pop("state_dict"))
    fold_as_configured(module.model, module.spec)
    return content


def score_split(attempt: Attempt, trainer: Trainer, module: MultiTaskModule, data: JobData, split: Split) -> float:
    """Score the network on a split (into `attempt.scoring`), and return the seconds that it took."""
    started = time.monotonic()
    attempt.scoring.test_split = data.test_split = split
    # Ranks are known once the trainer runs: the loaders are made there.
    trainer.test(module, datamodule=data, verbose=False)
    return time.monotonic() - started


def write_split(attempt: Attempt, split: Split) -> None:
    """Write predictions and ground truth of what was scored last; rank 0."""
    records = attempt.index.records[split]
    for name, task in attempt.job.model.tasks.items():
        categories = attempt.index.categories[name]
        predictions = attempt.scoring.predictions
        write_predictions(attempt.run_dir.predictions, name, task, categories, records, predictions)
        write_ground_truth(attempt.run_dir.ground_truth, name, task, categories, records)


def write_sample_pictures(attempt: Attempt, split: Split) -> None:
    """Draw the predicted boxes of a few images, picked evenly over the split, into plots/; rank 0."""
    records = {record.image_id: record for record in attempt.index.records[split]}
    shown = attempt.scoring.predictions[:: max(1, len(attempt.scoring.predictions) // NUM_SAMPLE_PICTURES)]
    for prediction in shown[:NUM_SAMPLE_PICTURES]:
        record = records[prediction.image_id]
        image = read_image(record.path, attempt.job.data.sources[record.source].exif)
        for name, task in attempt.job.model.tasks.items():
            if not kind_of(task).gives_boxes:
                continue
            setup = TaskSetup(name, task, attempt.index.categories[name])
            drawing = kind_of(task).draw(name, runtime_of(task).answer(setup, prediction.tasks[name]))
            picture = draw_boxes(
                image,
                drawing.boxes_xyxy or [],
                drawing.labels,
                drawing.scores,
                classes=[category.name for category in setup.categories],
            )
            attempt.run_dir.plots.mkdir(parents=True, exist_ok=True)
            picture.save(attempt.run_dir.plots / f"{split}_{record.image_id}_{name}.png")


def write_run_result(
    attempt: Attempt, module: MultiTaskModule, best: dict[str, Any], split: Split, test_s: float
) -> None:
    """Write tables, plots and, last, result.json: where it is, nothing is left to score or to draw; rank 0."""
    scores = attempt.scoring.scores
    assert scores is not None
    result = build_result(
        split=split,
        tasks=scores.tasks,
        val_tasks=best["val"]["tasks"],
        select=selection(attempt.job.model),
        model={
            "backbone": attempt.job.model.backbone.label,
            "parameters": sum(p.numel() for p in module.model.parameters()),
            "best_epoch": best["epoch"],
            "best_step": best["step"],
        },
        timing={"train_s": round(attempt.progress.train_s, 3), "test_s": round(test_s, 3)},
        versions=versions(),
    )
    print_results(split, scores.tasks)
    write_plots(attempt.run_dir.plots, attempt.run_dir.events, scores.tasks)
    write_result(attempt.run_dir.result, result)


def track(attempt: Attempt) -> None:
    """Send the result and the run folder's files to MLflow, again where an earlier attempt may not have come to it."""
    if attempt.tracker is None:
        return
    result = json.loads(attempt.run_dir.result.read_text())
    commit = git_commit()
    attempt.tracker.log_metrics(result["summary"], step=result["model"]["best_step"])
    attempt.tracker.log_tags({**result["versions"], **({"git_commit": commit} if commit else {})})
    for path in (attempt.run_dir.result, attempt.run_dir.config_yaml, attempt.run_dir.data_report):
        attempt.tracker.log_artifact(path)
    for folder in (attempt.run_dir.predictions, attempt.run_dir.ground_truth, attempt.run_dir.plots):
        attempt.tracker.log_artifact(folder, folder.name)


def register(attempt: Attempt) -> None:
    """Register the exported model below `tracking.register_as`; MLflow's trouble is told, and is no error; rank 0,
    when no other rank is left."""
    tracking = attempt.job.tracking
    if tracking is None or tracking.register_as is None or attempt.tracker is None:
        return
    attempt.stage("registering")
    attempt.tracker.flush()
    if attempt.tracker.run_id is None:
        attempt.warn("MLflow does not answer, so the model is not registered; run the same command again to do it")
        return
    select = selection(attempt.job.model)
    fingerprint = attempt.report.fingerprints["val"]

    def score_on_this_val(champion: ModelVersion) -> float | None:
        with tempfile.TemporaryDirectory() as folder:
            return score_exported(attempt, registry.download_exported(champion, Path(folder)), champion.uri)

    registry = Registry(attempt.tracker.store)
    try:
        version = registry.register(
            attempt.run_dir.model,
            name=tracking.register_as,
            run_id=attempt.tracker.run_id,
            metrics=json.loads(attempt.run_dir.result.read_text())["val"]["summary"],
            select=select,
            val_fingerprint=fingerprint,
        )
        attempt.stop.check("before the model was compared with the champion")
        promotion = registry.promote_if_better(
            version, select=select, val_fingerprint=fingerprint, score=score_on_this_val
        )
    except RegistryError as error:
        attempt.warn(f"the model is not registered: {error}; run the same command again to do it")
        return
    write_atomic(attempt.run_dir.registration, f'{{"name": "{version.name}", "version": {version.version}}}\n')
    what = "champion" if promotion.is_promoted else "candidate"
    say(f"registered as {version.uri} ({what})")


def score_exported(attempt: Attempt, folder: Path, name: str) -> float | None:
    """Return the number that decides of an exported model, scored on this run's val split at the model's own image
    size; None, and a warning, where it cannot be."""
    try:
        model, job, categories = load_exported(folder)
    except (ConfigError, ValueError) as error:
        attempt.warn(f"{name} cannot be loaded, and stays champion: {error}")
        return None
    own = attempt.index.categories
    # Scores of tasks that learn identities compare those of this run's labels, whichever the model was trained on.
    differs = any(
        categories.get(name) != own[name]
        for name, task in attempt.job.model.tasks.items()
        if not kind_of(task).learns_identities
    )
    if differs or _answers(job.model) != _answers(attempt.job.model):
        attempt.warn(f"{name} has other tasks or classes than this run; it stays champion")
        return None
    data = attempt.data(attempt.job.data.model_copy(update={"image_size": job.data.image_size}))
    # This run's document asks (for a gallery, say); the other one only made the network.
    module = MultiTaskModule(attempt.job.model, model, attempt.job.seed_everything)
    devices = attempt.job.trainer.devices
    one_device = devices[:1] if isinstance(devices, tuple) else 1
    alone = attempt.job.trainer.model_copy(update={"devices": one_device})
    score_split(attempt, create_trainer(alone, [EvaluationStop(attempt.stop), attempt.scoring]), module, data, "val")
    assert attempt.scoring.scores is not None
    return attempt.scoring.scores.summary[selection(attempt.job.model).metric]


def _answers(model: ModelSpec) -> dict[str, tuple[str, str | None]]:
    """Return what each task answers: its kind, and the task whose boxes it takes."""
    return {name: (kind_of(task).name, model.boxes_from(name)) for name, task in model.tasks.items()}
