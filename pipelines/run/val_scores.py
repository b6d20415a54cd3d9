"""Exported models, scored on the val split of a run to decide which of them is the champion; on rank 0."""

import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch

from pipelines.base.errors import ConfigError, ModelFilesUnavailable, NumericsError
from pipelines.evaluation.comparison import difference_interval
from pipelines.evaluation.metric_names import selection
from pipelines.evaluation.writers import write_ground_truth, write_predictions
from pipelines.inference.export import load_exported
from pipelines.run.attempt import Attempt
from pipelines.run.finalize import ScoredSplit, score_split
from pipelines.run_folder.layout import RunDir
from pipelines.spec.model import ModelSpec
from pipelines.tasks.kinds import kind_of
from pipelines.tasks.resampling import ScoredImages
from pipelines.tracking.challenge import Interval
from pipelines.tracking.model_versions import ModelVersion
from pipelines.training.checkpoints import EvaluationStop
from pipelines.training.module import MultiTaskModule
from pipelines.training.trainer import create_trainer


class ValScores:
    """Scores of the champion and of the run's own model on the val split of the run; each is scored at most once.

    Args:
        attempt: of the run, whose exported model exists.
        download: writes the exported model of a version to a folder, and returns its path there.
    """

    def __init__(self, attempt: Attempt, download: Callable[[ModelVersion, Path], Path]) -> None:
        self._attempt, self._download = attempt, download
        self._champions: dict[int, ScoredSplit | None] = {}
        self._select = selection(attempt.job.model)

    def metric(self, champion: ModelVersion) -> float | None:
        """Return the selection metric of a champion; None, after a warning, if it cannot be scored."""
        scored = self._of_champion(champion)
        return None if scored is None else scored.scores.summary[self._select.metric]

    def interval(self, champion: ModelVersion) -> Interval | None:
        """Return the interval of the difference between the run's model and a champion; None, after a warning, if it
        is not known."""
        own, other = self._own, self._of_champion(champion)
        if own is None or other is None:
            return None
        try:
            return difference_interval(self._images(other), self._images(own), self._select.metric.split("/")[2])
        except (ValueError, NotImplementedError) as error:
            self._attempt.warn(f"{self._select.metric} has no interval, so that {champion.uri} stays champion: {error}")
            return None

    @cached_property
    def _own(self) -> ScoredSplit | None:
        return evaluate_exported(self._attempt, self._attempt.run_dir.model, "the model of this run")

    def _of_champion(self, champion: ModelVersion) -> ScoredSplit | None:
        if champion.version not in self._champions:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    exported = self._download(champion, Path(folder))
                except ModelFilesUnavailable as error:
                    self._attempt.warn(f"{error}; it stays champion until its alias is moved")
                    self._champions[champion.version] = None
                else:
                    self._champions[champion.version] = evaluate_exported(self._attempt, exported, champion.uri)
        return self._champions[champion.version]

    def _images(self, scored: ScoredSplit) -> ScoredImages:
        """Return the predictions for the task of the selection metric, by way of the files that a run would write."""
        name = self._select.metric.split("/")[1]
        spec, index = self._attempt.job.model.tasks[name], self._attempt.index
        with tempfile.TemporaryDirectory() as folder:
            task = name, spec, index.categories[name], index.records["val"]
            run_dir = RunDir.of(Path(folder))
            predictions = write_predictions(run_dir.predictions, *task, scored.predictions)
            labels = write_ground_truth(run_dir.ground_truth, *task)
            images = kind_of(spec).scored_images(scored.scores.tasks[name], predictions, labels)
        if images is None:
            raise ValueError(f"the kind {kind_of(spec).name} cannot be compared")
        return images


def evaluate_exported(attempt: Attempt, folder: Path, name: str) -> ScoredSplit | None:
    """Score an exported model on this run's val split, at the image size of that model.

    Returns None, after a warning, if the model cannot be loaded, has other tasks or classes, needs more memory than the
    device has, or predicts numbers that are not finite.
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
    try:
        return score_split(attempt, trainer, module, data, "val")
    except (NumericsError, torch.OutOfMemoryError) as error:
        attempt.warn(f"{name} cannot be scored on the val data of this run, and the champion stays: {error}")
        return None


def _outputs(model: ModelSpec) -> dict[str, tuple[str, str | None]]:
    """Return the kind of each task, and the task whose boxes it uses."""
    return {name: (kind_of(task).name, model.boxes_from(name)) for name, task in model.tasks.items()}
