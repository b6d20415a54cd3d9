"""The end of a run: score the best checkpoint once, write the result, export and register the model."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer

from backbones.depthwise import compute_slow_depthwise_in_float32, num_float32_convolutions
from pipelines.base.records import Split
from pipelines.data.loading.datamodule import JobData
from pipelines.evaluation.conditions import ConditionScores
from pipelines.evaluation.metric_names import selection
from pipelines.evaluation.plots import write_condition_plots, write_plots
from pipelines.evaluation.predictions import ImagePredictions
from pipelines.evaluation.result import build_result, write_result
from pipelines.evaluation.tables import print_conditions, print_results
from pipelines.evaluation.writers import write_ground_truth, write_predictions
from pipelines.model import fold_as_configured
from pipelines.run.attempt import Attempt
from pipelines.run.versions import package_versions
from pipelines.run_folder.layout import RunDir
from pipelines.training.module import MultiTaskModule
from pipelines.training.scoring import Scores


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
            **({"calibration": best["calibration"]} if "calibration" in best else {}),
            **float32_facts(module),
        },
        timing={"train_s": round(attempt.progress.train_s, 3), "test_s": round(scored.seconds, 3), **_budget(attempt)},
        versions=package_versions(),
        corruptions=conditions.corruptions,
        slices=conditions.slices,
    )
    print_results(scores.split, scores.tasks)
    print_conditions(attempt.job.model, result)
    if attempt.job.evaluation.plots:
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
