"""`predict`: predictions for images with the weights of a run."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, DataError, FieldProblem
from pipelines.base.pictures import MIN_SHOWN_SCORE, picture_name
from pipelines.base.printable import printable
from pipelines.base.ranks import print_rank_zero
from pipelines.base.records import Split
from pipelines.command_line.predicted_images import find_images, pictures_folder, print_rows, raise_problems
from pipelines.inference.network import TorchNetwork
from pipelines.inference.picture import draw_answer
from pipelines.inference.predictor import Answer, Predictor, Thresholds
from pipelines.preflight import Places
from pipelines.run.lightning_cli import JobCLI
from pipelines.run.saved_run import SavedRun, Weights, load_data, load_document, load_run, new_output
from pipelines.run.workflow import Parts
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import PredictedImage
from pipelines.spec.job import JobSpec
from pipelines.spec.training import TrainerSpec
from pipelines.tasks.thresholds import BEST, Threshold, row_thresholds
from pipelines.training.module import MultiTaskModule
from pipelines.training.trainer import create_trainer

Found = tuple[list[Path], list[FieldProblem]]
"""The image files to predict, and the names that are none."""


@dataclass(frozen=True)
class Selection:
    """A filter of predictions by their score and class; None keeps all."""

    threshold: Threshold | None = None
    classes: Sequence[str] | None = None


def predict_images(
    path: Path,
    images: Sequence[Path],
    *,
    draw: str | None = None,
    weights: Weights = "best",
    threshold: Threshold | None = None,
    classes: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Predict image files (and all images of folders) with a run's weights.

    Prints a JSON list of {"file", "image", "tasks"}, and "warnings" for damaged files, with `image`, `tasks` and
    `warnings` as the predict endpoint returns them, and writes it to `eval/predict-<time>/predictions.json` of the run
    folder; with `draw`, also writes pictures. Their paths and the warnings are printed to stderr. An image that cannot
    be read does not affect the others.

    Args:
        path: folder of the run.
        images: files and folders.
        draw: folder for a picture of each image; "" is `pictures/` beside predictions.json, None is without pictures.
        weights: the weights to use.
        threshold: predict only what has a score above it, see `pipelines.tasks.thresholds`.
        classes: predict only these; None: all.
        options: values of the command's options, for LightningCLI's configuration.

    Raises:
        ConfigError: the run does not have these weights, or no best thresholds of them, or it lacks a class.
        DataError: at the end, with one problem for each image that has no prediction.
    """
    run_dir, job = load_document(path)
    selection = Selection(threshold, classes)
    workflow = PredictWorkflow(run_dir, lambda: find_images(images), draw=draw, weights=weights, selection=selection)
    JobCLI(workflow, job, {"run_dir": str(path), **(options or {})})


def predict_split(
    path: Path,
    split: Split,
    places: Places,
    *,
    draw: str | None = None,
    weights: Weights = "best",
    threshold: Threshold | None = None,
    classes: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Predict all images of a split of the run's data, see `predict_images`."""
    run_dir, job = load_document(path)

    def find_files() -> Found:
        _, index, _ = load_data(run_dir, job, split, places)
        return [record.path for record in index.records[split]], []

    selection = Selection(threshold, classes)
    workflow = PredictWorkflow(run_dir, find_files, draw=draw, weights=weights, selection=selection)
    JobCLI(workflow, job, {"run_dir": str(path), **(options or {})})


def thresholds_of_run(saved: SavedRun, selection: Selection) -> Thresholds | None:
    """Return the threshold of each class by task; raises ConfigError where the weights have no best thresholds."""
    if selection.threshold == BEST and saved.weights != "best":
        message = (
            f"got best with --weights {saved.weights}; only the best weights have them: write a number, such as 0.4"
        )
        raise ConfigError(FieldProblem("--threshold", message))
    tasks, best = saved.job.model.tasks, saved.best_thresholds
    return row_thresholds(selection.threshold, selection.classes, tasks, saved.categories, best)


class PredictWorkflow:
    """The workflow of `predict`. Images are predicted as by the service, without Lightning's loop."""

    command = "predict"

    def __init__(
        self,
        run_dir: RunDir,
        find_files: Callable[[], Found],
        *,
        draw: str | None,
        weights: Weights,
        selection: Selection,
    ) -> None:
        self.run_dir = run_dir
        self.find_files = find_files
        self.files: list[Path] = []
        self.problems: list[FieldProblem] = []
        self.draw = draw
        self.weights = weights
        self.selection = selection
        self.thresholds: Thresholds | None = None
        self._saved: SavedRun | None = None

    @property
    def saved(self) -> SavedRun:
        """The run; it exists after `set_up`."""
        assert self._saved is not None
        return self._saved

    @contextmanager
    def set_up(self, job: JobSpec) -> Iterator[None]:
        """Load the weights, and find the images."""
        pictures_folder(self.draw, Path())
        self._saved = saved = load_run(self.run_dir, job, self.weights)
        self.thresholds = thresholds_of_run(saved, self.selection)
        self.files, self.problems = self.find_files()
        if not self.files:
            raise_problems(self.problems)
        yield

    def build(self) -> Parts:
        """Return the module with the saved weights; the trainer is set up for this machine, not by the document."""
        job = self.saved.job
        module = MultiTaskModule(job.model, self.saved.network(), job.seed_everything)
        return Parts(module, None, create_trainer(TrainerSpec(devices=1), []))

    def run(self, parts: Parts) -> None:
        """Predict the images, write and print the predictions, and raise the problems of images without one."""
        saved = self.saved
        predictor = Predictor(TorchNetwork(parts.module.model), saved.job, saved.categories)
        answers: dict[Path, Answer] = {}
        for file, answer in zip(self.files, predictor.predict_each(self.files, self.thresholds), strict=True):
            if isinstance(answer, DataError):
                self.problems += answer.problems
            else:
                answers[file] = answer
        if answers:
            print_rank_zero(f"weights: {saved.weights}, of epoch {saved.epoch + 1}, step {saved.step}")
            self._write(predictor, answers)
        raise_problems(self.problems)

    def _write(self, predictor: Predictor, answers: Mapping[Path, Answer]) -> None:
        rows = [
            PredictedImage(file=printable(str(file)), **answer).model_dump(exclude_unset=True)
            for file, answer in answers.items()
        ]
        output = self._write_rows(rows)
        print_rows(rows)
        if output is None and self.draw == "":
            raise ConfigError(FieldProblem("--draw", "the run folder cannot be written; write --draw DIR"))
        folder = pictures_folder(self.draw, output.pictures if output else Path())
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for number, (file, answer) in enumerate(answers.items()):
            target = folder / picture_name(f"{number:04d}", str(file))
            min_score = MIN_SHOWN_SCORE if self.selection.threshold is None else 0.0
            picture = draw_answer(
                predictor.decode(file), answer, self.saved.job.model, self.saved.categories, min_score=min_score
            )
            picture.save(target)
            print_rank_zero(str(target))

    def _write_rows(self, rows: Sequence[Mapping[str, Any]]) -> RunDir | None:
        """Write predictions.json to a new folder of the run and return it; None if the run folder cannot be written."""
        try:
            output = new_output(self.saved.run_dir, self.command)
            write_atomic(output.predictions_json, json.dumps(rows, indent=1, allow_nan=False) + "\n")
        except OSError as error:
            place = self.saved.run_dir.path
            print_rank_zero(f"warning: {place} cannot be written ({error.strerror}); the predictions are only printed")
            return None
        print_rank_zero(str(output.predictions_json))
        return output
