"""The end of a run: score the best checkpoint once, write the result, export and register the model."""

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from backbones.depthwise import compute_slow_depthwise_in_float32, num_float32_convolutions
from pipelines.base.errors import ConfigError, ModelFilesUnavailable, RegistryError
from pipelines.base.ranks import print_rank_zero
from pipelines.base.records import Split
from pipelines.data.loading.datamodule import JobData
from pipelines.evaluation.conditions import ConditionScores
from pipelines.evaluation.metric_names import selection
from pipelines.evaluation.plots import write_condition_plots, write_plots
from pipelines.evaluation.predictions import ImagePredictions
from pipelines.evaluation.result import build_result, write_result
from pipelines.evaluation.tables import print_conditions, print_results
from pipelines.evaluation.writers import write_ground_truth, write_predictions
from pipelines.inference.export import load_exported
from pipelines.model import fold_as_configured
from pipelines.run.attempt import Attempt
from pipelines.run.versions import package_versions
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import Registration
from pipelines.spec.model import ModelSpec
from pipelines.tasks.kinds import kind_of
from pipelines.tracking.model_owners import claim_name, tenant_of_run
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.promotion import promote_if_better
from pipelines.tracking.registry import Registry
from pipelines.training.checkpoints import EvaluationStop
from pipelines.training.module import MultiTaskModule
from pipelines.training.scoring import Scores
from pipelines.training.trainer import create_trainer


@dataclass(frozen=True)
class ScoredSplit:
    """The outcome of one evaluation of a split.

    Attributes:
        scores: on every rank.
        predictions: on rank 0; empty on other ranks.
        seconds: the time that the evaluation took.
    """

    scores: Scores
    predictions: list[ImagePredictions]
    seconds: float


def load_best(module: MultiTaskModule, run_dir: RunDir) -> dict[str, Any]:
    """Load the weights of the best checkpoint into the network, and fold it if the document asks for it.

    Returns:
        The other entries of the checkpoint, see `pipelines.training.scoring.BestCheckpoint`.
    """
    content: dict[str, Any] = torch.load(run_dir.best_checkpoint, map_location="cpu", weights_only=True)
    module.model.load_state_dict(content.pop("state_dict"))
    fold_as_configured(module.model, module.spec)
    return content


def score_split(
    attempt: Attempt, trainer: Trainer, module: MultiTaskModule, data: JobData, split: Split
) -> ScoredSplit:
    """Score the network on a split. `attempt.scoring` must be a callback of the trainer."""
    started = time.monotonic()
    if attempt.precision.float32_depthwise:
        compute_slow_depthwise_in_float32(module.model)
    attempt.scoring.test_split = data.test_split = split
    # The data loaders are made inside: ranks are known only when the trainer runs.
    trainer.test(module, datamodule=data, verbose=False)
    assert attempt.scoring.scores is not None
    return ScoredSplit(attempt.scoring.scores, attempt.scoring.predictions, time.monotonic() - started)


def write_split(attempt: Attempt, scored: ScoredSplit) -> None:
    """Write the predictions and the ground truth of a split; on rank 0."""
    records = attempt.index.records[scored.scores.split]
    for name, task in attempt.job.model.tasks.items():
        categories = attempt.index.categories[name]
        write_predictions(attempt.run_dir.predictions, name, task, categories, records, scored.predictions)
        write_ground_truth(attempt.run_dir.ground_truth, name, task, categories, records)


def write_run_result(
    attempt: Attempt,
    module: MultiTaskModule,
    best: dict[str, Any],
    scored: ScoredSplit,
    conditions: ConditionScores,
) -> None:
    """Write tables and plots, and result.json last: if it exists, scoring and drawing are complete. On rank 0."""
    scores = scored.scores
    result = build_result(
        split=scores.split,
        tasks=scores.tasks,
        val_tasks=best["val"]["tasks"],
        select=selection(attempt.job.model),
        data=attempt.report.left_out,
        model={
            "backbone": attempt.job.model.backbone.label,
            "parameters": sum(p.numel() for p in module.model.parameters()),
            "best_epoch": best["epoch"],
            "best_step": best["step"],
            "precision": attempt.precision.name,
            **float32_facts(module),
        },
        timing={"train_s": round(attempt.progress.train_s, 3), "test_s": round(scored.seconds, 3), **_budget(attempt)},
        versions=package_versions(),
        corruptions=conditions.corruptions,
        slices=conditions.slices,
    )
    print_results(scores.split, scores.tasks)
    print_conditions(attempt.job.model, result)
    write_plots(attempt.run_dir.plots, attempt.run_dir.events, scores.tasks)
    write_condition_plots(attempt.run_dir.plots, attempt.job.model, result)
    write_result(attempt.run_dir.result, result)


def _budget(attempt: Attempt) -> dict[str, float]:
    """Return the budget and the time used of it up to the end of scoring, if the run has a budget."""
    budget_s = attempt.job.trainer.budget_s
    return {} if budget_s is None else {"budget_s": budget_s, "used_s": round(attempt.used.seconds(), 3)}


def float32_facts(module: MultiTaskModule) -> dict[str, int]:
    """Return the entry of result.json about convolutions that compute in float32, if there are any."""
    number = num_float32_convolutions(module.model)
    return {"float32_convolutions": number} if number else {}


def register(attempt: Attempt) -> None:
    """Register the exported model as `tracking.register_as`, on rank 0, after the other ranks have ended.

    Problems of MLflow are reported as warnings; they do not fail the run.
    """
    tracking = attempt.job.tracking
    if tracking is None or tracking.register_as is None or attempt.tracker is None:
        return
    attempt.start_stage("registering")
    attempt.tracker.flush()
    if attempt.tracker.run_id is None:
        attempt.warn("MLflow does not respond, so the model is not registered; run the same command again to register")
        return
    select = selection(attempt.job.model)
    fingerprint = attempt.report.fingerprints["val"]

    def score_on_val_of_run(champion: ModelVersion) -> float | None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                exported = registry.download_exported(champion, Path(folder))
            except ModelFilesUnavailable as error:
                attempt.warn(f"{error}; it stays champion until its alias is moved")
                return None
            return score_exported(attempt, exported, champion.uri)

    registry = Registry(attempt.tracker.store)
    try:
        if (tenant := tenant_of_run()) is not None:
            claim_name(registry, tracking.register_as, tenant)
        version = registry.register(
            attempt.run_dir.model,
            name=tracking.register_as,
            run_id=attempt.tracker.run_id,
            metrics=json.loads(attempt.run_dir.result.read_text())["val"]["summary"],
            select=select,
            val_fingerprint=fingerprint,
        )
        attempt.stop.check("before the model was compared with the champion")
        promotion = promote_if_better(
            registry,
            version,
            select=select,
            val_fingerprint=fingerprint,
            score=score_on_val_of_run,
            by=f"run {attempt.tracker.run_id}",
        )
    except RegistryError as error:
        attempt.warn(f"the model is not registered: {error}; run the same command again to register it")
        return
    Registration(name=version.name, version=version.version).write(attempt.run_dir.registration)
    alias = "champion" if promotion.is_promoted else "candidate"
    print_rank_zero(f"registered as {version.uri} ({alias})")


def score_exported(attempt: Attempt, folder: Path, name: str) -> float | None:
    """Return the selection metric of an exported model on this run's val split, at the image size of that model.

    Returns None, after a warning, if the model cannot be loaded or has other tasks or classes.
    """
    try:
        model, job, categories = load_exported(folder)
    except (ConfigError, ValueError) as error:
        attempt.warn(f"{name} cannot be loaded and stays champion: {error}")
        return None
    own = attempt.index.categories
    # Scores of tasks that learn identities compare those of this run's labels, whichever the model was trained on.
    differs = any(
        categories.get(name) != own[name]
        for name, task in attempt.job.model.tasks.items()
        if not kind_of(task).learns_identities
    )
    if differs or _outputs(job.model) != _outputs(attempt.job.model):
        attempt.warn(f"{name} has other tasks or classes than this run; it stays champion")
        return None
    data = attempt.data(attempt.job.data.model_copy(update={"image_size": job.data.image_size}))
    # This run's document controls the evaluation (a gallery, say); the other one has only built the network.
    module = MultiTaskModule(attempt.job.model, model, attempt.job.seed_everything)
    devices = attempt.job.trainer.devices
    one_device = devices[:1] if isinstance(devices, tuple) else 1
    alone = attempt.trainer_spec.model_copy(update={"devices": one_device})
    trainer = create_trainer(alone, [EvaluationStop(attempt.stop), attempt.scoring])
    scored = score_split(attempt, trainer, module, data, "val")
    return scored.scores.summary[selection(attempt.job.model).metric]


def _outputs(model: ModelSpec) -> dict[str, tuple[str, str | None]]:
    """Return the kind of each task, and the task whose boxes it uses."""
    return {name: (kind_of(task).name, model.boxes_from(name)) for name, task in model.tasks.items()}
