"""Scores of a split under conditions: with corrupted images, and in slices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.paths import below
from pipelines.base.ranks import is_rank_zero, print_rank_zero
from pipelines.base.records import ImageRecord
from pipelines.command_line.evaluation_options import EvaluationRequest
from pipelines.data.dataset.slices import Slices, read_slices
from pipelines.data.loading.corruptions import all_corruptions
from pipelines.data.loading.datamodule import JobData
from pipelines.evaluation.conditions import ConditionScores
from pipelines.evaluation.evaluate import Gallery
from pipelines.evaluation.slices import score_slices
from pipelines.run.attempt import Attempt
from pipelines.run.finalize import ScoredSplit
from pipelines.spec.job import JobSpec
from pipelines.training.module import MultiTaskModule


def slices_of(
    job: JobSpec, root: Path, records: Sequence[ImageRecord], request: EvaluationRequest | None = None
) -> Slices:
    """Return the slices of a split that the document or the command line asks for; empty if neither does.

    Raises:
        DataError: see `read_slices`.
    """
    spec = job.evaluation.slices
    if request is not None and request.slices is not None:
        return read_slices(request.slices, request.columns, request.unlisted, records, job.data.sources)
    if spec is None:
        return {}
    try:
        path = below(root, spec.path)
    except (ValueError, OSError) as error:
        raise DataError(FieldProblem("evaluation.slices.path", str(error))) from error
    return read_slices(path, spec.columns, spec.unlisted, records, job.data.sources)


def score_conditions(
    attempt: Attempt,
    module: MultiTaskModule,
    data: JobData,
    trainer: Trainer,
    scored: ScoredSplit,
    slices: Slices,
    *,
    corruptions: bool,
) -> ConditionScores:
    """Score a split under conditions, after it was scored as it is. All ranks must call this.

    On ranks other than 0, the slices of the result are empty.

    Args:
        attempt: its `scoring` must be a callback of the trainer.
        module, data, trainer: those that have scored the split.
        scored: its scores.
        slices: of the images.
        corruptions: whether to score corrupted images.
    """
    records = attempt.index.records
    found: list[dict[str, Any]] = []
    if slices and is_rank_zero():
        gallery = Gallery(records["train"], attempt.scoring.gallery) if attempt.job.model.gallery_tasks else None
        found = score_slices(
            attempt.job.model,
            attempt.index.categories,
            records[scored.scores.split],
            scored.predictions,
            slices,
            gallery=gallery,
            best_thresholds=attempt.scoring.best_thresholds,
        )
    return ConditionScores(_score_corrupted(attempt, trainer, module, data) if corruptions else (), found)


def _score_corrupted(
    attempt: Attempt, trainer: Trainer, module: MultiTaskModule, data: JobData
) -> list[dict[str, Any]]:
    """Return the summaries of the split that was scored last, under each corruption at each strength."""
    rows: list[dict[str, Any]] = []
    every = all_corruptions()
    try:
        for number, corruption in enumerate(every, start=1):
            print_rank_zero(f"scoring {corruption.name} at strength {corruption.strength} ({number} of {len(every)})")
            data.corruption = corruption
            trainer.test(module, datamodule=data, verbose=False)
            assert attempt.scoring.scores is not None
            rows.append(
                {
                    "corruption": corruption.name,
                    "strength": corruption.strength,
                    "setting": corruption.setting,
                    "summary": attempt.scoring.scores.summary,
                }
            )
    finally:
        data.corruption = None
    return rows
