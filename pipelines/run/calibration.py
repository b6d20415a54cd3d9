"""Fit the temperatures of the best checkpoint on val, as `evaluation.calibrate` asks for."""

import io
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import Trainer

from pipelines.base.ranks import is_rank_zero, print_rank_zero
from pipelines.data.loading.datamodule import JobData
from pipelines.evaluation.evaluate import fit_temperature
from pipelines.run.attempt import Attempt
from pipelines.run.finalize import score_split
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.tasks.temperature import FittedTemperature
from pipelines.training.module import MultiTaskModule

NUM_PASSES = 2
"""Passes over val that `calibrate` takes."""


def calibrate(
    attempt: Attempt, module: MultiTaskModule, data: JobData, trainer: Trainer, best: dict[str, Any]
) -> dict[str, Any]:
    """Calibrate the network on val, store the temperatures in best.ckpt, and return its content with new scores of val.

    All ranks must call this. It may be repeated: a network that is calibrated already is calibrated anew.

    Args:
        attempt: its `scoring` must be a callback of the trainer.
        module: the network with the weights of best.ckpt.
        data, trainer: of the attempt.
        best: the content of best.ckpt without its weights, see `pipelines.training.scoring.BestCheckpoint`.
    """
    attempt.start_stage("calibrating")
    module.model.temperatures = {}
    attempt.scoring.best_thresholds = None
    score_split(attempt, trainer, module, data, "val")
    fitted: dict[str, FittedTemperature] = trainer.strategy.broadcast(_fit(attempt) if is_rank_zero() else {})
    for name, own in fitted.items():
        text = f"temperature {own.temperature:.3f}, expected calibration error on val {own.ece_before:.4f}"
        print_rank_zero(f"{name}: {text} -> {own.ece_after:.4f}")
    module.model.temperatures = {name: own.temperature for name, own in fitted.items() if own.temperature != 1}
    scores = score_split(attempt, trainer, module, data, "val").scores
    changed = {
        "val": {"summary": scores.summary, "tasks": scores.tasks},
        "temperatures": {name: own.temperature for name, own in fitted.items()},
    }
    if is_rank_zero():
        _store(attempt.run_dir, changed)
    return {**best, **changed, "calibration": {name: asdict(own) for name, own in fitted.items()}}


def _fit(attempt: Attempt) -> dict[str, FittedTemperature]:
    """Return the temperatures by task, of tasks that have scores and labels on val."""
    found = {
        name: fit_temperature(
            name, spec, attempt.index.categories[name], attempt.index.records["val"], attempt.scoring.predictions
        )
        for name, spec in sorted(attempt.job.model.tasks.items())
    }
    return {name: fitted for name, fitted in found.items() if fitted is not None}


def _store(run_dir: RunDir, changed: dict[str, Any]) -> None:
    content = torch.load(run_dir.best_checkpoint, map_location="cpu", weights_only=True)
    buffer = io.BytesIO()
    torch.save({**content, **changed}, buffer)
    write_atomic(run_dir.best_checkpoint, buffer.getvalue())
