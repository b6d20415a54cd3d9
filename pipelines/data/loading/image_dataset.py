"""The dataset of one split: each sample is a function of (seed, epoch, index)."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.records import ImageRecord
from pipelines.data.loading.planned_sample import PlannedSample, fitted_size
from pipelines.data.loading.sample import ImageInfo, Sample, SampleKey, Stream, random_numbers
from pipelines.data.loading.targets import TargetEncoder
from pipelines.data.loading.transforms import EvalTransform, TrainTransform
from pipelines.data.source_images import read_source_image
from pipelines.spec.data import SourceSpec


class ImageDataset(Dataset[Sample]):
    """Samples of the records of one split.

    Args:
        records: the records of the split; the index of a `SampleKey` is a position in this sequence.
        sources: the sources of the document by name, which say how their images are read.
        encoder: creates the targets.
        transform: changes the pixels and the boxes.
        seed: seed of the augmentation.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        sources: Mapping[str, SourceSpec],
        encoder: TargetEncoder,
        transform: TrainTransform | EvalTransform,
        seed: int = 0,
    ) -> None:
        self.records = records
        self.sources = dict(sources)
        self.encoder = encoder
        self.transform = transform
        self.seed = seed
        self._decoded: list[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: SampleKey) -> Sample:
        """Return the sample; the same key gives the same sample in any process, at any time.

        Raises:
            DataError: the image is unreadable or differs in size from its record, or its labels cannot be encoded.
        """
        record = self.records[key.index]
        repeat = [key.repeat] if key.repeat else []
        rng = random_numbers(Stream.AUGMENT, self.seed, key.epoch, key.index, *repeat)
        transformed = self.transform(self._pixels(key.index), self.encoder.encode(record), rng, self)
        height, width = transformed.image.shape[-2:]
        info = ImageInfo(
            image_id=record.image_id,
            file_name=record.file_name,
            source=record.source,
            original_hw=(record.height, record.width),
            size_hw=(height, width),
            scale_xy=transformed.scale_xy,
        )
        return Sample(transformed.image, info, transformed.targets)

    def load(self, index: int) -> PlannedSample:
        """Return a sample before augmentation, for operations that combine several images.

        Raises:
            DataError: see `__getitem__`.
        """
        image = self._pixels(index)
        height, width = image.shape[-2:]
        canvas_hw = fitted_size((height, width), self.transform.image_size)
        return PlannedSample.start(image, self.encoder.encode(self.records[index]), canvas_hw)

    def fill_cache(self) -> None:
        """Decode all images once and keep them as uint8 at their original size: 3 bytes per pixel in each process.

        The original size preserves detail for zooming in, and makes a cached run equal to an uncached one; resizing
        costs 0.3 ms at 640x480. Call this before the workers are forked, so that they share the memory pages, which are
        never written to again.
        """
        if self._decoded is None:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                self._decoded = list(pool.map(self._decode, self.records))

    def _pixels(self, index: int) -> Tensor:
        return self._decode(self.records[index]) if self._decoded is None else self._decoded[index]

    def _decode(self, record: ImageRecord) -> Tensor:
        """Return the image (3, H, W) uint8 in HWC memory, for which the resize kernel is twice as fast."""
        image = read_source_image(record.path, record.source, self.sources[record.source])
        if image.size != (record.width, record.height):
            raise DataError(
                FieldProblem(
                    record.file_name,
                    f"is {image.width} x {image.height} pixels, but the index says {record.width} x {record.height}; "
                    "the file has changed since it was indexed: run the command again",
                )
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)
