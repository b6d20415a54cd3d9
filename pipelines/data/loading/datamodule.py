"""The data of a job as a LightningDataModule."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, Sampler

from pipelines.base.ranks import rank, world_size
from pipelines.base.records import DatasetIndex, ImageRecord, Split
from pipelines.data.loading.batch_loader import BatchLoader
from pipelines.data.loading.collate import Collate
from pipelines.data.loading.corruptions import CorruptedImages
from pipelines.data.loading.image_dataset import ImageDataset
from pipelines.data.loading.planned_sample import fitted_size
from pipelines.data.loading.sample import Batch, Sample, SampleKey, padded_size
from pipelines.data.loading.sampling.create import create_train_sampler
from pipelines.data.loading.sampling.evaluation import EvalBatchSampler
from pipelines.data.loading.sampling.training import TrainBatchSampler
from pipelines.data.loading.targets import TargetEncoder
from pipelines.data.loading.transforms import EvalTransform, TrainTransform
from pipelines.spec.augment import operations_of
from pipelines.spec.data import DataSpec
from pipelines.spec.tasks import Task, gallery_tasks


class TrainLoader(BatchLoader):
    """A loader that counts the batches it has yielded in its epoch, and can resume after them.

    Lightning saves `state_dict` of such a loader in each checkpoint and restores it before the first batch. Batches
    that workers have fetched ahead are not counted. Lightning counts batches too, so in a resumed epoch batch k of the
    loader is batch k of the epoch.
    """

    batch_sampler: TrainBatchSampler

    def __init__(self, dataset: ImageDataset, *, batch_sampler: TrainBatchSampler, **options: Any) -> None:
        super().__init__(dataset, batch_sampler=batch_sampler, **options)
        self._position = (batch_sampler.epoch, batch_sampler.start)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator, so that epoch and start are read when the first batch is requested: Lightning creates the first
        # epoch's iterator before it calls set_epoch, and workers would fetch batches of the wrong epoch.
        epoch, done = self.batch_sampler.epoch, self.batch_sampler.start
        self._position = (epoch, done)
        for batch in super().__iter__():
            done += 1
            self._position = (epoch, done)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of its batches that are done."""
        epoch, done = self._position
        return {"epoch": epoch, "batches_done": done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restrict the next iteration to the remaining batches of that epoch; `set_epoch` lifts this."""
        self.batch_sampler.set_epoch(state["epoch"])
        self.batch_sampler.start_at(state["batches_done"])
        self._position = (state["epoch"], state["batches_done"])


class JobData(lightning.LightningDataModule):
    """Loaders of all splits.

    The samplers split batches over the ranks, so a trainer with several devices needs `use_distributed_sampler=False`.
    With `cache: ram` the images of a split are decoded when its loader is created: once in each process, because any
    rank may draw any image in the next epoch, and before workers are forked, which then share the memory pages.

    Args:
        spec: `data` of the document.
        tasks: `model.tasks` of the document.
        index: images, labels and categories of all sources, from `build_index`.
        seed: seed of the order of images and of their augmentation.

    Attributes:
        test_split: the split that `trainer.test` evaluates.
        corruption: changes the images of `test_split`; the gallery of a task is then not read again.
        min_batch: a last batch of training with fewer images is joined with the one before.
    """

    def __init__(self, spec: DataSpec, tasks: Mapping[str, Task], index: DatasetIndex, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.tasks = dict(sorted(tasks.items()))
        self.index = index
        self.seed = seed
        self.test_split: Split = "test"
        self.corruption: CorruptedImages | None = None
        self.min_batch = 1
        self._datasets: dict[tuple[Split, bool], ImageDataset] = {}

    def records(self, split: Split) -> Sequence[ImageRecord]:
        """Return the records of a split, in the order of the keys' indices."""
        return self.index.records.get(split, [])

    def dataset(self, split: Split, *, augmented: bool) -> ImageDataset:
        """Return the samples of a split with the train or the eval transform; created once, without pixels."""
        if (split, augmented) not in self._datasets:
            self._datasets[split, augmented] = ImageDataset(
                records=self.records(split),
                sources=self.spec.sources,
                encoder=TargetEncoder(self.tasks, self.index.categories),
                transform=(
                    TrainTransform(self.spec.image_size, operations_of(self.spec.augment))
                    if augmented
                    else EvalTransform(self.spec.image_size)
                ),
                seed=self.seed,
            )
        return self._datasets[split, augmented]

    def train_dataloader(self) -> TrainLoader:
        """Return the augmented train split; images without a label for any task are not drawn.

        Raises:
            DataError: no image of the train split is labeled, or there are too few identities for a `pk` sampler.
        """
        dataset = self.dataset("train", augmented=True)
        return TrainLoader(dataset, batch_sampler=self.train_sampler(), **self._options(dataset))

    def num_train_batches(self) -> int:
        """Return the number of batches of one epoch, which is equal on all ranks."""
        return len(self.train_sampler())

    def train_sampler(self, world_size: int | None = None) -> TrainBatchSampler:
        """Return the sampler of this rank; with another number of ranks than the present one, of rank 0."""
        rank, present = self._rank_and_world_size()
        return create_train_sampler(
            self.spec,
            self.tasks,
            self.records("train"),
            seed=self.seed,
            rank=rank if world_size in (None, present) else 0,
            world_size=world_size or present,
            max_epochs=self._max_epochs(),
            min_batch=self.min_batch,
        )

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Return the loaders of the val split, see `evaluation_loaders`."""
        return self.evaluation_loaders("val")

    def test_dataloader(self) -> list[DataLoader[Sample]]:
        """Return the loaders of `test_split`, see `evaluation_loaders`."""
        if self.corruption is not None:
            return [self.loader(self.test_split, self.corruption)]
        return self.evaluation_loaders(self.test_split)

    def evaluation_loaders(self, split: Split) -> list[DataLoader[Sample]]:
        """Return the loader of a split (without batches if the data has no such split), and the loader of the training
        split if a task uses it as the gallery of its queries."""
        splits: list[Split] = [split, "train"] if gallery_tasks(self.tasks) else [split]
        return [self.loader(name) for name in splits]

    def loader(self, split: Split, corruption: CorruptedImages | None = None) -> DataLoader[Sample]:
        """Return one exact pass over a split with the eval transform, after a corruption of the images if one is given.

        Each image is drawn once over all ranks, and a batch has images of one padded size only, so that no result
        depends on the other images of its batch.
        """
        rank, world_size = self._rank_and_world_size()
        groups = [
            (record.source, padded_size(fitted_size((record.height, record.width), self.spec.image_size)))
            for record in self.records(split)
        ]
        sampler: Sampler[list[SampleKey]] = EvalBatchSampler(
            groups,
            {group: self.spec.sources[group[0]].images_per_batch for group in groups},
            rank=rank,
            world_size=world_size,
        )
        dataset = self.dataset(split, augmented=False)
        dataset.corruption = corruption
        return BatchLoader(dataset, batch_sampler=sampler, **self._options(dataset))

    def _options(self, dataset: ImageDataset) -> dict[str, Any]:
        if self.spec.cache == "ram":
            dataset.fill_cache()
        return {
            "collate_fn": Collate(list(self.tasks)),
            "num_workers": self.spec.num_workers,
            "persistent_workers": self.spec.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            # Without its own generator, a loader draws its workers' seed from the global one, and the next random
            # numbers of the model would depend on the number of iterated loaders.
            "generator": torch.Generator().manual_seed(self.seed),
        }

    def _max_epochs(self) -> int | None:
        """Return the number of epochs of the trainer; None if there is no trainer, or if it has no limit."""
        max_epochs = None if self.trainer is None else self.trainer.max_epochs
        return None if max_epochs is None or max_epochs < 0 else max_epochs

    def _rank_and_world_size(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        return rank(), world_size()
