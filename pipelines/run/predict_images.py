"""`predict`: predictions for images with the weights of a run."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.paths import IMAGE_SUFFIXES
from pipelines.base.ranks import print_rank_zero
from pipelines.base.records import Split
from pipelines.data.images import read_image
from pipelines.inference.picture import draw_answer
from pipelines.inference.predictor import Predictor, expected_exif
from pipelines.preflight import Places
from pipelines.run.lightning_cli import JobCLI
from pipelines.run.saved_run import SavedRun, Weights, load_data, load_document, load_run, new_output
from pipelines.run.workflow import Parts
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import PredictedImage
from pipelines.spec.job import JobSpec
from pipelines.spec.training import TrainerSpec
from pipelines.training.module import MultiTaskModule
from pipelines.training.trainer import create_trainer


def predict_images(
    path: Path,
    images: Sequence[Path],
    *,
    draw: bool,
    weights: Weights = "best",
    options: Mapping[str, Any] | None = None,
) -> None:
    """Predict image files (and all images of folders) with a run's weights.

    Writes `eval/predict-<time>/predictions.json` of the run folder, a list of {"file", "image", "tasks"} with `tasks`
    as the predict endpoint returns them, and pictures below `pictures/` if `draw`; prints their paths.

    Args:
        path: folder of the run.
        images: files and folders.
        draw: also write a picture for each image.
        weights: the weights to use.
        options: values of the command's options, for LightningCLI's configuration.

    Raises:
        ConfigError: the run does not have these weights.
        DataError: a file is missing or not an image.
    """
    run_dir, job = load_document(path)

    def find_files() -> list[Path]:
        return [file for image in images for file in _files(image)]

    JobCLI(
        PredictWorkflow(run_dir, find_files, draw=draw, weights=weights), job, {"run_dir": str(path), **(options or {})}
    )


def predict_split(
    path: Path,
    split: Split,
    places: Places,
    *,
    draw: bool,
    weights: Weights = "best",
    options: Mapping[str, Any] | None = None,
) -> None:
    """Predict all images of a split of the run's data, see `predict_images`."""
    run_dir, job = load_document(path)

    def find_files() -> list[Path]:
        _, index, _ = load_data(run_dir, job, split, places)
        return [record.path for record in index.records[split]]

    JobCLI(
        PredictWorkflow(run_dir, find_files, draw=draw, weights=weights), job, {"run_dir": str(path), **(options or {})}
    )


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise DataError(
                FieldProblem("--images", f"{path} contains no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
            )
        return found
    if not path.is_file():
        raise DataError(FieldProblem("--images", f"file {str(path)!r} does not exist"))
    return [path]


class PredictWorkflow:
    """The workflow of `predict`. Images are predicted as by the service, without Lightning's loop."""

    command = "predict"

    def __init__(self, run_dir: RunDir, find_files: Callable[[], list[Path]], *, draw: bool, weights: Weights) -> None:
        self.run_dir = run_dir
        self.find_files = find_files
        self.files: list[Path] = []
        self.draw = draw
        self.weights = weights
        self._saved: SavedRun | None = None

    @property
    def saved(self) -> SavedRun:
        """The run; it exists after `set_up`."""
        assert self._saved is not None
        return self._saved

    @contextmanager
    def set_up(self, job: JobSpec) -> Iterator[None]:
        """Load the weights, and find the images."""
        self._saved = load_run(self.run_dir, job, self.weights)
        self.files = self.find_files()
        yield

    def build(self) -> Parts:
        """Return the module with the saved weights; the trainer is set up for this machine, not by the document."""
        job = self.saved.job
        module = MultiTaskModule(job.model, self.saved.network(), job.seed_everything)
        return Parts(module, None, create_trainer(TrainerSpec(devices=1), []))

    def run(self, parts: Parts) -> None:
        """Predict the images, write the predictions, and print the paths of the files."""
        saved = self.saved
        answers = Predictor(parts.module.model, saved.job, saved.categories).predict(self.files)
        print_rank_zero(f"weights: {saved.weights}, of epoch {saved.epoch}, step {saved.step}")
        output = new_output(saved.run_dir, self.command)
        rows = [PredictedImage(file=str(file), **answer) for file, answer in zip(self.files, answers, strict=True)]
        document = json.dumps([row.model_dump() for row in rows], indent=1, allow_nan=False)
        write_atomic(output.predictions_json, document + "\n")
        print(output.predictions_json)
        if self.draw:
            self._draw(answers, output.pictures)

    def _draw(self, answers: Sequence[Mapping[str, Any]], folder: Path) -> None:
        job = self.saved.job
        folder.mkdir()
        for number, (file, answer) in enumerate(zip(self.files, answers, strict=True)):
            target = folder / f"{number:04d}_{file.stem}.png"
            image = read_image(file, expected_exif(job.data))
            draw_answer(image, answer, job.model, self.saved.categories).save(target)
            print(target)
