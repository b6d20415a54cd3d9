"""From images to the JSON of the predict endpoint, for the command line, MLflow and the service alike."""

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from heads.base import Prediction
from pipelines.base.errors import DataError
from pipelines.base.printable import printable
from pipelines.base.records import Category
from pipelines.data.images import MAX_PIXELS
from pipelines.data.loading.collate import Collate
from pipelines.data.loading.sample import ImageInfo, Sample, padded_size
from pipelines.data.loading.transforms import EvalTransform
from pipelines.data.source_images import NewImageReader
from pipelines.inference.export import load_exported, read_best_thresholds, read_model_description
from pipelines.inference.network import Network, Precision, TorchNetwork
from pipelines.run_folder.layout import ExportedModelDir
from pipelines.runtimes.variant import load_variant
from pipelines.spec.job import JobSpec
from pipelines.tasks.base import BestThresholds, TaskSetup
from pipelines.tasks.class_thresholds import ClassThresholds
from pipelines.tasks.kinds import kind_of
from pipelines.tasks.tensors.runtime import runtime_of
from pipelines.tasks.thresholds import Threshold, requested_thresholds, row_thresholds, rows_above

ImageLike = Image.Image | Path | str | bytes
"""A decoded image, a file, or a file's bytes."""

Answer = dict[str, Any]
Thresholds = Mapping[str, ClassThresholds]
"""The threshold of each class by task."""

WINDOW_BATCHES = 4
"""Number of batches whose images are in memory at a time, sorted by size."""


class Predictor:
    """A network with everything that is needed to answer for images.

    Args:
        network: in any runtime.
        job: the document that it was trained with.
        categories: by task, the classes in the order of the labels.
        best_thresholds: the model's, by task; None: unknown.
        batch_size: images at once; only images of one padded size share a batch, so that no answer depends on the
            others (except for rounding in float32).
    """

    def __init__(
        self,
        network: Network,
        job: JobSpec,
        categories: Mapping[str, Sequence[Category]],
        *,
        best_thresholds: Mapping[str, BestThresholds] | None = None,
        batch_size: int = 8,
    ) -> None:
        self.network, self.job, self.categories = network, job, categories
        self.setups = {name: TaskSetup(name, spec, categories[name]) for name, spec in job.model.tasks.items()}
        self.batch_size = batch_size
        self.best_thresholds = best_thresholds or {}
        self._transform = EvalTransform(job.data.image_size)
        self._collate = Collate([])
        self.reader = NewImageReader(job.data)

    @classmethod
    def from_exported(
        cls, folder: Path, *, device: str = "auto", precision: Precision = "float32", batch_size: int = 8
    ) -> "Predictor":
        """Return a predictor of the model in `folder`, which torch computes.

        The norms of the model are folded into its convolutions (see `MultiTaskModel.fold_norms`).

        Args:
            folder: written by `pipelines.inference.export`.
            device, precision: see `TorchNetwork`.
            batch_size: see the constructor.

        Raises:
            ConfigError: the folder holds no usable model.
        """
        model, job, categories = load_exported(folder)
        model.fold_norms()
        network, best = TorchNetwork(model, device, precision), read_best_thresholds(folder)
        return cls(network, job, categories, best_thresholds=best, batch_size=batch_size)

    @classmethod
    def from_variant(
        cls, folder: Path, variant: Path, *, threads: int | None = None, batch_size: int = 8
    ) -> "Predictor":
        """Return a predictor of the model in `folder`, which the runtime of its export in `variant` computes.

        Args:
            folder: written by `pipelines.inference.export`.
            variant: written by `pipelines.export`.
            threads: of one batch; by default the number of cores that this process may use.
            batch_size: see the constructor.

        Raises:
            ConfigError: the folders hold no usable model or different ones, or the runtime is not installed.
        """
        described = read_model_description(folder)
        network = load_variant(variant, threads, ExportedModelDir(folder).weights)
        best = described.best_thresholds
        return cls(network, described.job, described.categories, best_thresholds=best, batch_size=batch_size)

    def predict(self, images: Sequence[ImageLike], threshold: Threshold | None = None) -> list[Answer]:
        """Return one answer for each image, in order.

        An answer is `{image: {width, height}, tasks: {<task>: ...}}`, with a list of `warnings` if the file of the
        image is damaged but was read. What a task answers depends on its kind: see the schema `answer` of the kinds in
        `pipelines.tasks`. Boxes are `[x, y, width, height]` in pixels of the image as given. With a threshold, an
        answer has only what has a score above it, see `pipelines.tasks.thresholds`.

        Raises:
            DataError: an image cannot be read.
            ThresholdUnusable: see `requested_thresholds`.
        """
        answers: list[Answer] = []
        thresholds = None if threshold is None else self.thresholds(threshold)
        for answer in self.predict_each(images, thresholds):
            if isinstance(answer, DataError):
                raise answer
            answers.append(answer)
        return answers

    def thresholds(self, threshold: Threshold) -> Thresholds:
        """Return the threshold of each class by task; raises ThresholdUnusable, see `requested_thresholds`."""
        return requested_thresholds(threshold, self.job.model.tasks, self.categories, self.best_thresholds)

    def row_thresholds(self, threshold: Threshold | None, classes: Collection[str] | None) -> Thresholds | None:
        """Return what `select` needs to keep only some scores and classes; None if everything is kept.

        Raises:
            ThresholdUnusable, ClassUnknown: see `pipelines.tasks.thresholds.row_thresholds`.
        """
        return row_thresholds(threshold, classes, self.job.model.tasks, self.categories, self.best_thresholds)

    def select(self, answer: Answer, thresholds: Thresholds) -> Answer:
        """Return the answer without objects and classes whose score is not above the threshold of their class."""
        model, tasks = self.job.model, answer["tasks"]
        kept = {name: rows_above(model.tasks[name], tasks[name], own) for name, own in thresholds.items()}
        selected = {}
        for name, found in tasks.items():
            # The objects of a task that takes boxes are those of the other task, in the same order.
            is_kept = kept.get(model.boxes_from(name) or name)
            selected[name] = found if is_kept is None else kind_of(model.tasks[name]).with_rows(found, is_kept)
        return {**answer, "tasks": selected}

    def predict_each(
        self, images: Sequence[ImageLike], thresholds: Thresholds | None = None
    ) -> Iterator[Answer | DataError]:
        """Yield the answer for each image, in order, or the error of an image that cannot be read; see `predict`."""
        window = self.batch_size * WINDOW_BATCHES
        for start in range(0, len(images), window):
            prepared: list[Sample | DataError] = []
            for number, image in enumerate(images[start : start + window], start):
                try:
                    prepared.append(self.prepare(image, name=f"image {number}"))
                except DataError as error:
                    prepared.append(error)
            yield from self.answer_each(prepared, thresholds)

    def answer_each(
        self, prepared: Sequence[Sample | DataError], thresholds: Thresholds | None = None
    ) -> Iterator[Answer | DataError]:
        """Yield the answer for each prepared image, in order, or the error of one that cannot be read."""
        answers = iter(self.answer([sample for sample in prepared if isinstance(sample, Sample)]))
        for sample in prepared:
            if isinstance(sample, DataError):
                yield sample
            else:
                answer = next(answers)
                yield answer if thresholds is None else self.select(answer, thresholds)

    def prepare(self, image: ImageLike, *, name: str = "image", max_pixels: int = MAX_PIXELS) -> Sample:
        """Return an image decoded and resized, ready for `answer`. Several threads may call this at once.

        Args:
            image: anything that `predict` takes.
            name: of an image that is not a file, for messages.
            max_pixels: limit for the image as given.

        Raises:
            DataError: see `pipelines.data.images.read_image`.
        """
        if isinstance(image, Image.Image):
            pixels, warnings = np.array(self.reader.convert(image)), list[str]()
        else:
            pixels, warnings = self.reader.read_pixels(_file_of(image, name), max_pixels)
        return self.resize(pixels, warnings, printable(str(image)) if isinstance(image, str | Path) else "")

    def resize(self, pixels: np.ndarray, warnings: Sequence[str] = (), file_name: str = "") -> Sample:
        """Return pixels (H, W, 3) uint8 that `reader` has read, resized and ready for `answer`. Several threads may
        call this at once."""
        transformed = self._transform(torch.from_numpy(pixels).permute(2, 0, 1), {})
        (original_height, original_width), (height, width) = pixels.shape[:2], transformed.image.shape[-2:]
        info = ImageInfo(
            image_id=0,
            file_name=file_name,
            source="",
            original_hw=(original_height, original_width),
            size_hw=(height, width),
            scale_xy=transformed.scale_xy,
        )
        return Sample(transformed.image, info, warnings=list(warnings))

    def decode(self, image: ImageLike, *, name: str = "image", max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Return an image as the model sees it before it is resized: RGB, rotated and scaled to 8 bits as those of the
        data sources were."""
        if isinstance(image, Image.Image):
            return self.reader.convert(image)
        return self.reader.read(_file_of(image, name), max_pixels)[0]

    def answer(self, samples: Sequence[Sample]) -> list[Answer]:
        """Return one answer for each prepared image, in order, computed in batches. Only one thread at a time may call
        this."""
        answers: dict[int, Answer] = {}
        for positions in _batches(samples, self.batch_size):
            batch = self._collate([samples[position] for position in positions])
            predictions = self.network.predict(batch.images, [info.size_hw for info in batch.infos])
            for b, (position, info) in enumerate(zip(positions, batch.infos, strict=True)):
                own = {task: of_batch[b] for task, of_batch in predictions.items()}
                answer = self.to_answer(own, info)
                warnings = samples[position].warnings
                answers[position] = {**answer, "warnings": warnings} if warnings else answer
        return [answers[position] for position in range(len(samples))]

    def to_answer(self, predictions: Mapping[str, Prediction], info: ImageInfo) -> Answer:
        """Return the answer for an image, given the predictions of all tasks for it."""
        outputs = {name: runtime_of(self.setups[name].spec).from_network(p, info) for name, p in predictions.items()}
        tasks = {}
        for name in sorted(outputs):
            setup, output = self.setups[name], outputs[name]
            runtime, source = runtime_of(setup.spec), self.job.model.boxes_from(name)
            tasks[name] = runtime.answer(setup, runtime.with_boxes(output, outputs[source]) if source else output)
        height, width = info.original_hw
        return {"image": {"width": width, "height": height}, "tasks": tasks}


class _NamedBytes(io.BytesIO):
    """Bytes with a name for messages."""

    name = ""


def _file_of(image: str | Path | bytes, name: str) -> Path | BinaryIO:
    if not isinstance(image, bytes):
        return Path(image)
    file = _NamedBytes(image)
    file.name = name
    return file


def _batches(samples: Sequence[Sample], batch_size: int) -> Iterator[list[int]]:
    """Yield the positions of samples in groups of one padded size."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for position, sample in enumerate(samples):
        by_size.setdefault(padded_size(sample.info.size_hw), []).append(position)
    for same_size in by_size.values():
        for start in range(0, len(same_size), batch_size):
            yield same_size[start : start + batch_size]
