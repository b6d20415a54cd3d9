"""A loader whose data errors are the same with and without worker processes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset, get_worker_info

from pipelines.base.errors import PyramidionError
from pipelines.data.loading.sample import Batch, Sample, SampleKey
from pipelines.data.loading.workers import SampleLoader


@dataclass(frozen=True)
class FailedBatch:
    """Takes the place of a batch that a worker could not load."""

    error: PyramidionError


class _ReportingDataset(Dataset[Sample]):
    """Returns an error in place of the samples of a batch, so that it reaches the main process as it is.

    torch raises the error of a worker again with its traceback as the message.
    """

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset

    def __getitems__(self, keys: Sequence[SampleKey]) -> list[Sample] | FailedBatch:
        try:
            return [self.dataset[key] for key in keys]
        except PyramidionError as error:
            if get_worker_info() is None:
                raise
            return FailedBatch(error)


class _Collated:
    """Collates the samples of a batch that was loaded."""

    def __init__(self, collate: Callable[[Sequence[Sample]], Batch]) -> None:
        self._collate = collate

    def __call__(self, samples: list[Sample] | FailedBatch) -> Batch | FailedBatch:
        return samples if isinstance(samples, FailedBatch) else self._collate(samples)


class BatchLoader(SampleLoader):
    """A loader of batches.

    Args:
        dataset: its samples.
        collate_fn: makes a batch of samples.
        options: those of DataLoader, see `SampleLoader`.
    """

    def __init__(
        self, dataset: Dataset[Sample], *, collate_fn: Callable[[Sequence[Sample]], Batch], **options: Any
    ) -> None:
        super().__init__(_ReportingDataset(dataset), collate_fn=_Collated(collate_fn), **options)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the batches; raise DataError if a sample cannot be loaded, see `ImageDataset`."""
        for batch in super().__iter__():
            if isinstance(batch, FailedBatch):
                raise batch.error
            yield batch
