"""A batch prediction: all images of a folder with a registered model, resumable at any moment."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.printable import printable
from pipelines.data.loading.sample import Sample
from pipelines.inference.file_decoding import DecodeFiles, decode_here
from pipelines.inference.predictor import WINDOW_BATCHES, Answer, Predictor, Thresholds
from pipelines.preflight import REGISTRY
from pipelines.run.answer_files import write_results
from pipelines.run.answer_journal import AnswerJournal, answer_of, listed_images
from pipelines.run.folder_setup import locked
from pipelines.run.registered_weights import download_model
from pipelines.run_folder.events import EventLog, StageData, WarningData, WorkData
from pipelines.run_folder.layout import ExportedModelDir, RunDir
from pipelines.run_folder.schemas import BatchImage, ImageAnswer
from pipelines.spec.batch_prediction import BatchPredictionSpec

MAX_WARNINGS = 20
"""Further images that cannot be read are counted, but have no events: images.csv and result.json list them."""
PROGRESS_EVERY_S = 1.0

Numbered = tuple[int, BatchImage]
"""An image with its number, counted from 1."""


def predict_batch(spec: BatchPredictionSpec, folder: Path, run_dir: RunDir, decode: DecodeFiles = decode_here) -> None:
    """Predict the images of a folder that have no answer yet, and write the files and result.json.

    The process may be ended at any moment: the next one continues after the images that have been answered.

    Args:
        spec: the document.
        folder: of the images.
        run_dir: of the job.
        decode: decodes the files of the images.

    Raises:
        ConfigError: the model cannot be used, or it lacks a class or the best thresholds.
        DataError: the folder has no images; or one cannot be read, and the document ends the job then.
        RegistryError: the model registry does not respond.
    """
    with locked(run_dir), closing(EventLog(run_dir.events)) as events:
        events.write(StageData(stage="preparing", message=f"images in {folder}"))
        images = listed_images(run_dir, folder)
        journal = AnswerJournal(run_dir)
        predictor = Predictor.from_exported(_model_folder(spec, run_dir), batch_size=spec.batch_size)
        rows = predictor.row_thresholds(spec.threshold, spec.classes)
        _BatchRun(spec, folder, predictor, rows, journal, events, decode).predict(images)
        events.write(StageData(stage="writing"))
        write_results(spec, predictor, journal, run_dir)


def _model_folder(spec: BatchPredictionSpec, run_dir: RunDir) -> Path:
    """Return the exported model, which the first attempt downloads."""
    if not ExportedModelDir(run_dir.init_from).description.is_file():
        download_model(f"{REGISTRY}{spec.model}/{spec.version}", run_dir.init_from)
    return run_dir.init_from


class _BatchRun:
    """The images of one attempt."""

    def __init__(
        self,
        spec: BatchPredictionSpec,
        folder: Path,
        predictor: Predictor,
        rows: Thresholds | None,
        journal: AnswerJournal,
        events: EventLog,
        decode: DecodeFiles,
    ) -> None:
        self._spec, self._folder, self._predictor, self._rows = spec, folder, predictor, rows
        self._journal, self._events, self._decode = journal, events, decode
        self._num_warnings = 0

    def predict(self, images: Sequence[BatchImage]) -> None:
        """Answer all images that have no answer yet, in groups that are written together."""
        first, total = self._journal.num_answered, len(images)
        resumed = f", of which {first} have been predicted before" if first else ""
        self._events.write(StageData(stage="predicting", message=f"{total} images{resumed}"))
        print(f"{total} images{resumed}; {self._spec.model}, version {self._spec.version}", flush=True)
        started, reported = time.monotonic(), 0.0
        numbered = list(enumerate(images, start=1))
        size = WINDOW_BATCHES * self._spec.batch_size
        # Groups are the same in each attempt: images that share a batch differ by rounding from images alone.
        begin = first - first % size if first < total else total
        samples = self._samples(images[begin:])
        for start in range(begin, total, size):
            answers = list(self._answers(numbered[start : start + size], samples))
            self._journal.append([answer for answer in answers if answer.image_id > self._journal.num_answered])
            now, done = time.monotonic(), self._journal.num_answered
            if now - reported >= PROGRESS_EVERY_S or done == total:
                per_s = (done - first) / max(now - started, 1e-6)
                left_s = round((total - done) / per_s, 1) if per_s else None
                progress = WorkData(done=done, total=total, unit="images", per_s=round(per_s, 2), left_s=left_s)
                self._events.write(progress, step=done)
                print(f"{done} of {total} images, {per_s:.1f} images/s", flush=True)
                reported = now

    def _samples(self, images: Sequence[BatchImage]) -> Iterator[Sample | DataError]:
        """Yield each image, ready for the network; it may be decoded while the network runs on earlier ones."""
        files = [self._folder / image.file for image in images if image.problem is None]
        decoded_files = iter(self._decode(files, self._predictor.reader))
        for image in images:
            if image.problem is not None:
                yield DataError(FieldProblem(image.file, image.problem))
                continue
            decoded = next(decoded_files)
            yield decoded if isinstance(decoded, DataError) else self._predictor.resize(*decoded)

    def _answers(self, group: Sequence[Numbered], samples: Iterator[Sample | DataError]) -> Iterator[ImageAnswer]:
        """Yield the answer for each image of a group, in order; the group's samples are the next ones."""
        prepared = list(islice(samples, len(group)))
        answers = self._predictor.answer_each(prepared, self._rows)
        for (image_id, image), answer in zip(group, answers, strict=True):
            yield (
                self._failed(image_id, image, answer)
                if isinstance(answer, DataError)
                else _line(image_id, image, answer)
            )

    def _failed(self, image_id: int, image: BatchImage, error: DataError) -> ImageAnswer:
        reason = error.problems[0].message
        if self._spec.on_error == "fail":
            raise DataError(FieldProblem(printable(image.file), f"{reason} (on_error: fail)"))
        self._num_warnings += 1
        if self._num_warnings <= MAX_WARNINGS:
            self._events.write(WarningData(message=f"{printable(image.file)} {reason}; it has no prediction"))
        return answer_of(image_id, image, reason)


def _line(image_id: int, image: BatchImage, answer: Answer) -> ImageAnswer:
    return ImageAnswer(image_id=image_id, file=printable(image.file), **answer)
