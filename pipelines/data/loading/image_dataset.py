"""The dataset of one split: each sample is a function of (seed, epoch, index)."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.records import ImageRecord
from pipelines.data.loading.corruptions import CorruptedImages
from pipelines.data.loading.planned_sample import ImageSize, PlannedSample, fitted_size
from pipelines.data.loading.sample import ImageInfo, Sample, SampleKey, Stream, random_numbers
from pipelines.data.loading.targets import TargetEncoder
from pipelines.data.loading.transforms import EvalTransform, TrainTransform
from pipelines.data.source_images import read_source_pixels
from pipelines.spec.data import SourceSpec


class ImageDataset(Dataset[Sample]):
    """Samples of the records of one split.

    Args:
        records: the records of the split; the index of a `SampleKey` is a position in this sequence.
        sources: the sources of the document by name, which say how their images are read.
        encoder: creates the targets.
        transform: changes the pixels and the boxes.
        seed: seed of the augmentation.

    Attributes:
        corruption: changes each image before the transform; it must be set before the workers of a loader start.
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
        self.corruption: CorruptedImages | None = None
        self._decoded: list[Tensor] | None = None
        self._partner_indices: dict[tuple[str, frozenset[str]], NDArray[np.int64]] = {}

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
        transformed = self.transform(
            self._pixels(key.index, record),
            self.encoder.encode(record),
            rng,
            self.partners(key) if key.is_combined else None,
            image_size=key.image_size,
        )
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

    def load(self, index: int, image_size: ImageSize | None = None) -> PlannedSample:
        """Return a sample before augmentation, for operations that combine several images.

        Args:
            index: position of its record.
            image_size: size of its batch; None: that of the transform.

        Raises:
            DataError: see `__getitem__`.
        """
        record = self.records[index]
        image = self._pixels(index, record)
        height, width = image.shape[-2:]
        canvas_hw = fitted_size((height, width), image_size or self.transform.image_size)
        return PlannedSample.start(image, self.encoder.encode(record), canvas_hw)

    def partners(self, key: SampleKey) -> "Partners":
        """Return the images of the same source that are labeled for at least the tasks of the image."""
        return Partners(self, key)

    def partner_indices(self, index: int) -> NDArray[np.int64]:
        """Return the positions of the partners of an image."""
        record = self.records[index]
        tasks = frozenset(self.encoder.setups.keys() & record.labels.keys())
        if (record.source, tasks) not in self._partner_indices:
            self._partner_indices[record.source, tasks] = np.array(
                [
                    index
                    for index, other in enumerate(self.records)
                    if other.source == record.source and tasks <= other.labels.keys()
                ]
            )
        return self._partner_indices[record.source, tasks]

    def fill_cache(self) -> None:
        """Decode all images once and keep them as uint8 at their original size: 3 bytes per pixel in each process.

        The original size preserves detail for zooming in, and makes a cached run equal to an uncached one; resizing
        costs 0.3 ms at 640x480. Call this before the workers are forked, so that they share the memory pages, which are
        never written to again.
        """
        if self._decoded is None:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                self._decoded = list(pool.map(self._decode, self.records))

    def _pixels(self, index: int, record: ImageRecord) -> Tensor:
        pixels = self._decode(record) if self._decoded is None else self._decoded[index]
        return pixels if self.corruption is None else self.corruption.apply(pixels, record)

    def _decode(self, record: ImageRecord) -> Tensor:
        """Return the image (3, H, W) uint8 in HWC memory, for which the resize kernel is twice as fast."""
        pixels = read_source_pixels(record.path, record.source, self.sources[record.source])
        height, width = pixels.shape[:2]
        if (height, width) != (record.height, record.width):
            raise DataError(
                FieldProblem(
                    record.file_name,
                    f"is {width} x {height} pixels, but the index says {record.width} x {record.height}; "
                    "the file has changed since it was indexed: run the command again",
                )
            )
        return torch.from_numpy(pixels).permute(2, 0, 1)


class Partners:
    """The images of a data set that may be combined with one image; they are found when an operation asks for them.

    They have the settings of its source, and at least its labels, so that the combination loses none.

    Args:
        dataset: the data set.
        key: of the image.
    """

    def __init__(self, dataset: ImageDataset, key: SampleKey) -> None:
        self.dataset = dataset
        self.key = key

    @cached_property
    def indices(self) -> NDArray[np.int64]:
        """Their positions in the data set."""
        return self.dataset.partner_indices(self.key.index)

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, index: int) -> PlannedSample:
        """Return a sample as it is before the first operation."""
        return self.dataset.load(int(self.indices[index]), self.key.image_size)
