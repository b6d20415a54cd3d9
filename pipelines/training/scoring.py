"""Scores of evaluation passes, and the checkpoint with the best score."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from pipelines.base.errors import PyramidionError
from pipelines.base.ranks import print_rank_zero
from pipelines.base.records import DatasetIndex, Split
from pipelines.data.loading.sample import Batch
from pipelines.evaluation.collect import Collector
from pipelines.evaluation.evaluate import evaluate_tasks
from pipelines.evaluation.metric_names import selection, summarize
from pipelines.evaluation.predictions import ImagePredictions
from pipelines.run_folder.events import EventLog, MetricData
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.spec.model import ModelSpec
from pipelines.tasks.base import BestThresholds
from pipelines.tracking.tracker import Tracker
from pipelines.training.module import MultiTaskModule
from pipelines.training.strategy import share_buffers


@dataclass(frozen=True)
class Scores:
    """Scores of one pass over a split: by task as in result.json, and a summary by `<split>/<task>/<metric>`."""

    split: Split
    tasks: dict[str, Any]
    summary: dict[str, float | None]


class Scoring(Callback):
    """Scores each evaluation pass once, on rank 0, and gives all ranks the scores.

    Args:
        spec: `model` of the document.
        index: categories and labels of the data.
        test_split: the split of `trainer.test`.

    Attributes:
        scores: of the last pass, on all ranks; None before the first.
        predictions: of the last pass, on rank 0 only.
        gallery: predictions for the training split, for tasks that use a gallery, on rank 0 only.
        best_thresholds: by task, those that the scores of the following passes use; None: each pass finds its own.
    """

    def __init__(self, spec: ModelSpec, index: DatasetIndex, test_split: Split = "test") -> None:
        self.spec = spec
        self.index = index
        self.test_split = test_split
        self.collector = Collector(spec, index)
        self.scores: Scores | None = None
        self.predictions: list[ImagePredictions] = []
        self.gallery: list[ImagePredictions] = []
        self.best_thresholds: Mapping[str, BestThresholds] | None = None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Averaged weights are in place by now: callbacks are called in their order.
        share_buffers(pl_module)
        self.collector.begin("val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        share_buffers(pl_module)
        self.collector.begin(self.test_split)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.collector.add(batch.infos, outputs, gallery=dataloader_idx > 0)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._score(trainer)

    on_test_epoch_end = on_validation_epoch_end

    def _score(self, trainer: Trainer) -> None:
        """Score on rank 0; all ranks get the scores, or raise the error of rank 0."""
        if trainer.sanity_checking:  # a trainer that evaluates a few batches before training
            return
        gathered = self.collector.gather()
        outcome: Scores | PyramidionError | None = None
        if gathered is not None:
            # A pass over corrupted images reads no gallery; it uses that of the pass before.
            self.predictions, self.gallery = gathered[0], gathered[1] or self.gallery
            try:
                outcome = self._scores(self.collector.split)
            except PyramidionError as error:
                outcome = error
        outcome = trainer.strategy.broadcast(outcome)
        if isinstance(outcome, PyramidionError):
            raise outcome
        self.scores = outcome

    def _scores(self, split: Split) -> Scores:
        tasks = evaluate_tasks(self.spec, self.index, split, self.predictions, self.gallery, self.best_thresholds)
        return Scores(split, tasks, summarize(split, tasks))


class BestCheckpoint(Callback):
    """Keeps the weights with the best score on val in best.ckpt, and reports the scores of every validation.

    The last weights are kept while the score is undefined. best.ckpt contains plain types and tensors only:
    {"state_dict", "epoch", "step", "select", "val": {"summary", "tasks"}, "categories": by task [(id, name)]}.
    `pipelines.run.calibration` adds {"temperatures": by task}.

    Args:
        run_dir: folder for the checkpoint.
        scoring: a callback that precedes this one.
        weights: returns the network's weights to keep, averaged or not.
        events: for the scores.
        tracker: for the scores; None: not tracked.
    """

    def __init__(
        self,
        run_dir: RunDir,
        scoring: Scoring,
        weights: Callable[[], Mapping[str, Tensor]],
        events: EventLog,
        tracker: Tracker | None,
    ) -> None:
        self.path = run_dir.best_checkpoint
        self.scoring = scoring
        self.select = selection(scoring.spec)
        self.weights = weights
        self.events = events
        self.tracker = tracker
        self.best: float | None = None

    @property
    def state_key(self) -> str:
        """Name of the state in checkpoints; the one that earlier versions wrote."""
        return "Best"

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        scores = self.scoring.scores
        assert scores is not None
        value = scores.summary[self.select.metric]
        is_better = self._is_better(value)
        if is_better:
            self.best = value
        if not trainer.is_global_zero:
            return
        if is_better or self.best is None or not self.path.exists():
            assert isinstance(pl_module, MultiTaskModule)
            self._write(trainer, scores)
        self._report(trainer, scores, value, is_better)

    def _is_better(self, value: float | None) -> bool:
        if value is None or self.best is None:
            return value is not None
        return value > self.best if self.select.mode == "max" else value < self.best

    def _write(self, trainer: Trainer, scores: Scores) -> None:
        content = {
            "state_dict": dict(self.weights()),
            "epoch": _epoch(trainer),
            "step": trainer.global_step,
            "select": {**self.select.model_dump(), "value": self.best},
            "val": {"summary": scores.summary, "tasks": scores.tasks},
            "categories": {
                task: [(category.id, category.name) for category in categories]
                for task, categories in self.scoring.index.categories.items()
            },
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomic(self.path, buffer.getvalue())

    def _report(self, trainer: Trainer, scores: Scores, value: float | None, is_better: bool) -> None:
        defined = {name: number for name, number in scores.summary.items() if number is not None}
        self.events.write(MetricData(scores.summary), epoch=_epoch(trainer), step=trainer.global_step)
        if self.tracker is not None:
            self.tracker.log_metrics(defined, step=trainer.global_step)
        shown = "undefined" if value is None else f"{value:.4f}"
        note = "  (best so far)" if is_better else "  (the last weights are kept)" if self.best is None else ""
        print_rank_zero(f"epoch {_epoch(trainer) + 1}  {self.select.metric} {shown}{note}")


def _epoch(trainer: Trainer) -> int:
    """Return the last trained epoch; after the end of training, Lightning's count is one higher."""
    return min(trainer.current_epoch, (trainer.max_epochs or 1) - 1)
