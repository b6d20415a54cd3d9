"""From images to the JSON of the predict endpoint. The command line, MLflow and the service all use this one.

Legend: N boxes. Boxes go out in pixels of the image as given, `[x, y, width, height]`.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from heads.base import BoxPrediction, ClassPrediction, EmbeddingPrediction, Prediction
from pipelines.data.dataset.images import MAX_PIXELS, Exif, read_image
from pipelines.data.loading.collate import Collate
from pipelines.data.loading.sample import ImageInfo, Sample, padded_size
from pipelines.data.loading.transforms import EvalTransform, boxes_to_original
from pipelines.inference.export import load_exported
from pipelines.model import MultiTaskModel
from pipelines.records import Category
from pipelines.spec.data import DataSpec
from pipelines.spec.job import JobSpec

ImageLike = Image.Image | Path | str | bytes
"""A decoded image, a file, or a file's bytes."""

Precision = Literal["float32", "bfloat16"]
Answer = dict[str, Any]

WINDOW_BATCHES = 4
"""So many batches of images are in memory at a time, and sorted by size."""


class Predictor:
    """A model on a device, ready to answer.

    Args:
        model: is moved to the device, and put in eval mode.
        job: the document that it was trained with.
        categories: by task, the classes in the order of the labels.
        device: `auto` is a GPU where there is one.
        precision: `bfloat16` computes under autocast.
        batch_size: images at once; only images of one padded size share a batch, so that (but for the rounding of
            float32) no answer depends on the others.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        job: JobSpec,
        categories: Mapping[str, Sequence[Category]],
        *,
        device: str = "auto",
        precision: Precision = "float32",
        batch_size: int = 8,
    ) -> None:
        self.device = torch.device(_best_device() if device == "auto" else device)
        self.model = model.to(self.device).eval()
        self.job, self.categories = job, categories
        self.precision, self.batch_size = precision, batch_size
        self._transform = EvalTransform(job.data.image_size)
        self._collate = Collate([])
        self._exif = expected_exif(job.data)

    @classmethod
    def from_exported(cls, folder: Path, **options: Any) -> "Predictor":
        """Return a predictor of the model in `folder`; the options are those of the constructor.

        Raises:
            ConfigError: the folder holds no usable model.
        """
        return cls(*load_exported(folder), **options)

    def predict(self, images: Sequence[ImageLike]) -> list[Answer]:
        """Return an answer an image, in order; none for none.

        `{image: {width, height}, tasks: {<task>: ...}}`, where a task answers
        `{detections: [{category_id, label, score, bbox_xywh}]}` (best first), `{labels: [{label, score}]}` (best
        first), `{embedding: [...]}`, or `{embeddings: [{bbox_xywh, score, embedding}]}` for the boxes of its detection
        task.

        Raises:
            DataError: an image cannot be read.
        """
        answers: list[Answer] = []
        window = self.batch_size * WINDOW_BATCHES
        for start in range(0, len(images), window):
            numbered = enumerate(images[start : start + window], start)
            answers.extend(self.answer([self.prepare(image, name=f"image {number}") for number, image in numbered]))
        return answers

    def prepare(self, image: ImageLike, *, name: str = "image", max_pixels: int = MAX_PIXELS) -> Sample:
        """Return an image decoded and resized, ready for `answer`. Threads may do this side by side.

        Args:
            image: anything that `predict` takes.
            name: what messages call it, where it is no file.
            max_pixels: of the image as given.

        Raises:
            DataError: see `pipelines.data.dataset.images.read_image`.
        """
        decoded = self.decode(image, name=name, max_pixels=max_pixels)
        pixels = torch.from_numpy(np.array(decoded)).permute(2, 0, 1)
        transformed = self._transform(pixels, {})
        height, width = transformed.image.shape[-2:]
        info = ImageInfo(
            image_id=0,
            file_name=str(image) if isinstance(image, str | Path) else "",
            source="",
            original_hw=(decoded.height, decoded.width),
            size_hw=(height, width),
            scale_xy=transformed.scale_xy,
        )
        return Sample(transformed.image, info)

    def decode(self, image: ImageLike, *, name: str = "image", max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Return an image as the model sees it before it is resized: RGB, turned as its sources were."""
        if isinstance(image, Image.Image):
            return image.convert("RGB")
        if isinstance(image, bytes):
            file = _NamedBytes(image)
            file.name = name
            return read_image(file, self._exif, max_pixels)
        return read_image(Path(image), self._exif, max_pixels)

    def answer(self, samples: Sequence[Sample]) -> list[Answer]:
        """Return an answer a prepared image, in order, computed in batches. One thread at a time may do this."""
        answers: dict[int, Answer] = {}
        for positions in _batches(samples, self.batch_size):
            batch = self._collate([samples[position] for position in positions])
            predictions = self._run(batch.images, [info.size_hw for info in batch.infos])
            for b, (position, info) in enumerate(zip(positions, batch.infos, strict=True)):
                own = {task: of_batch[b] for task, of_batch in predictions.items()}
                answers[position] = self._answer(own, info)
        return [answers[position] for position in range(len(samples))]

    def _run(self, images: torch.Tensor, sizes_hw: Sequence[tuple[int, int]]) -> dict[str, list[Prediction]]:
        is_bf16 = self.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=is_bf16):
            return self.model.predict(images.to(self.device), sizes_hw)

    def _answer(self, predictions: Mapping[str, Prediction], info: ImageInfo) -> Answer:
        height, width = info.original_hw
        tasks = {task: self._task_answer(task, predictions, info) for task in sorted(predictions)}
        return {"image": {"width": width, "height": height}, "tasks": tasks}

    def _task_answer(self, task: str, predictions: Mapping[str, Prediction], info: ImageInfo) -> Answer:
        prediction = predictions[task]
        if isinstance(prediction, BoxPrediction):
            return {"detections": self._detections(task, prediction, info)}
        if isinstance(prediction, ClassPrediction):
            scored = zip(self.categories[task], prediction.scores.tolist(), strict=True)
            labels = [{"label": category.name, "score": score} for category, score in scored]
            return {"labels": sorted(labels, key=lambda row: -row["score"])}
        if (source := self.job.model.boxes_from(task)) is None:
            return {"embedding": prediction.embeddings.tolist()}
        return {"embeddings": _embeddings(prediction, predictions[source], info)}

    def _detections(self, task: str, prediction: BoxPrediction, info: ImageInfo) -> list[Answer]:
        categories = self.categories[task]
        rows = zip(
            prediction.labels.tolist(), prediction.scores.tolist(), _original_xywh(prediction, info), strict=True
        )
        return [
            {"category_id": categories[k].id, "label": categories[k].name, "score": score, "bbox_xywh": bbox_xywh}
            for k, score, bbox_xywh in rows
        ]


def expected_exif(data: DataSpec) -> Exif:
    """Return how the EXIF orientation of a new image is treated: as the sources were; where they differ, applied, so
    that the image is seen upright."""
    settings = {source.exif for source in data.sources.values()}
    return settings.pop() if len(settings) == 1 else "apply"


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


class _NamedBytes(io.BytesIO):
    """Bytes with a name for messages."""

    name = ""


def _batches(samples: Sequence[Sample], batch_size: int) -> Iterator[list[int]]:
    """Yield the positions of samples in groups of one padded size."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for position, sample in enumerate(samples):
        by_size.setdefault(padded_size(sample.info.size_hw), []).append(position)
    for same_size in by_size.values():
        for start in range(0, len(same_size), batch_size):
            yield same_size[start : start + batch_size]


def _original_xywh(prediction: BoxPrediction, info: ImageInfo) -> list[list[float]]:
    """Return the boxes in original pixels."""
    boxes_xyxy = boxes_to_original(prediction.boxes_xyxy.cpu(), info)
    return [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes_xyxy.tolist()]


def _embeddings(prediction: EmbeddingPrediction, boxes: Prediction, info: ImageInfo) -> list[Answer]:
    assert isinstance(boxes, BoxPrediction), "the document lets only detection tasks give boxes"
    rows = zip(_original_xywh(boxes, info), boxes.scores.tolist(), prediction.embeddings.tolist(), strict=True)
    return [{"bbox_xywh": bbox_xywh, "score": score, "embedding": vector} for bbox_xywh, score, vector in rows]
