"""The data of a job as Lightning's loaders."""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, Sampler

from pipelines.data.loading.collate import Collate
from pipelines.data.loading.image_dataset import ImageDataset
from pipelines.data.loading.planned_sample import fitted_size
from pipelines.data.loading.sample import Batch, Sample, SampleKey, padded_size
from pipelines.data.loading.sampling.create import create_train_sampler
from pipelines.data.loading.sampling.evaluation import EvalBatchSampler
from pipelines.data.loading.sampling.training import TrainBatchSampler
from pipelines.data.loading.targets import TargetEncoder
from pipelines.data.loading.transforms import EvalTransform, TrainTransform
from pipelines.ranks import rank, world_size
from pipelines.records import DatasetIndex, ImageRecord, Split
from pipelines.spec.augment import operations_of
from pipelines.spec.data import DataSpec
from pipelines.spec.tasks import Task, gallery_tasks


class TrainLoader(DataLoader[Sample]):
    """A loader that knows how many batches of its epoch it has handed out, and can go on from there.

    Lightning writes `state_dict` of such a loader into each checkpoint and gives it back before the first batch. What
    counts is what was handed out, not what workers have fetched ahead. Lightning keeps its own number of the batch, so
    a resumed epoch goes on with batch k of the loader as batch k of the epoch.
    """

    batch_sampler: TrainBatchSampler

    def __init__(self, dataset: ImageDataset, *, batch_sampler: TrainBatchSampler, **options: Any) -> None:
        super().__init__(dataset, batch_sampler=batch_sampler, **options)
        self._position = (batch_sampler.epoch, batch_sampler.start)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # A generator, so that epoch and start are read when the first batch is asked for: Lightning makes the first
        # epoch's iterator before it calls set_epoch, and workers would fetch from the wrong epoch at once.
        epoch, done = self.batch_sampler.epoch, self.batch_sampler.start
        self._position = (epoch, done)
        for batch in super().__iter__():
            done += 1
            self._position = (epoch, done)
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and how many of its batches are done."""
        epoch, done = self._position
        return {"epoch": epoch, "batches_done": done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next iteration be the rest of that epoch (of the whole next one after `set_epoch`)."""
        self.batch_sampler.set_epoch(state["epoch"])
        self.batch_sampler.start_at(state["batches_done"])
        self._position = (state["epoch"], state["batches_done"])


def _end_without_parent(parent: int, worker: int) -> None:
    """End a worker whose parent was killed before torch's own watch over it began: that one would wait for ever."""
    if os.getppid() != parent:
        os._exit(1)


class JobData(lightning.LightningDataModule):
    """Loaders of all splits. Ranks are told apart in the samplers: set the trainer's `use_distributed_sampler=False`.

    With `cache: ram` a split's images are decoded when its loader is made: once a process (each rank has all of them,
    as any rank may draw any image in the next epoch), before workers are forked, which then share the pages.

    Args:
        spec: `data` of the document.
        tasks: `model.tasks` of the document.
        index: what the sources hold.
        seed: of order and augmentation.

    Attributes:
        test_split: what `trainer.test` goes over.
    """

    def __init__(self, spec: DataSpec, tasks: Mapping[str, Task], index: DatasetIndex, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.tasks = dict(sorted(tasks.items()))
        self.index = index
        self.seed = seed
        self.test_split: Split = "test"
        self._datasets: dict[tuple[Split, bool], ImageDataset] = {}

    def records(self, split: Split) -> list[ImageRecord]:
        """Return the records of a split, in the order of the keys' indices."""
        return self.index.records.get(split, [])

    def dataset(self, split: Split, *, augmented: bool) -> ImageDataset:
        """Return the samples of a split with the train transform or the eval transform; made once, without pixels."""
        if (split, augmented) not in self._datasets:
            self._datasets[split, augmented] = ImageDataset(
                records=self.records(split),
                exif={name: source.exif for name, source in self.spec.sources.items()},
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
            DataError: no image of the train split is labeled; too few identities for a sampler of them.
        """
        dataset = self.dataset("train", augmented=True)
        return TrainLoader(dataset, batch_sampler=self._train_sampler(), **self._options(dataset))

    def num_train_batches(self) -> int:
        """Return the batches of one epoch, the same on every rank."""
        return len(self._train_sampler())

    def _train_sampler(self) -> TrainBatchSampler:
        rank, world_size = self._rank_and_world_size()
        return create_train_sampler(
            self.spec, self.tasks, self.records("train"), seed=self.seed, rank=rank, world_size=world_size
        )

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """Return the loaders of val, see `evaluation_loaders`."""
        return self.evaluation_loaders("val")

    def test_dataloader(self) -> list[DataLoader[Sample]]:
        """Return the loaders of `test_split`, see `evaluation_loaders`."""
        return self.evaluation_loaders(self.test_split)

    def evaluation_loaders(self, split: Split) -> list[DataLoader[Sample]]:
        """Return the split (no batches where there is none) and, where a task looks its queries up in the training
        split, that one as a gallery."""
        splits: list[Split] = [split, "train"] if gallery_tasks(self.tasks) else [split]
        return [self.loader(name) for name in splits]

    def loader(self, split: Split) -> DataLoader[Sample]:
        """Return one exact pass over a split with the eval transform: each image once over all ranks, batches only
        of one padded size, so that no result depends on batch mates."""
        rank, world_size = self._rank_and_world_size()
        groups = [
            (record.source, padded_size(fitted_size((record.height, record.width), self.spec.image_size)))
            for record in self.records(split)
        ]
        sampler: Sampler[list[SampleKey]] = EvalBatchSampler(
            groups,
            {group: self.spec.sources[group[0]].batch_size for group in groups},
            rank=rank,
            world_size=world_size,
        )
        dataset = self.dataset(split, augmented=False)
        return DataLoader(dataset, batch_sampler=sampler, **self._options(dataset))

    def _options(self, dataset: ImageDataset) -> dict[str, Any]:
        if self.spec.cache == "ram":
            dataset.fill_cache()
        return {
            "collate_fn": Collate(list(self.tasks)),
            "num_workers": self.spec.num_workers,
            "persistent_workers": self.spec.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            # Without its own generator a loader draws its workers' seed from the global one, and what the model
            # draws next would depend on how many loaders were iterated.
            "generator": torch.Generator().manual_seed(self.seed),
            "worker_init_fn": partial(_end_without_parent, os.getpid()),
        }

    def _rank_and_world_size(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        return rank(), world_size()
