"""The loaders of a job's data: on their own, in training, and after a resume."""

import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn

from pipelines.base.errors import DataError
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import Batch

AUGMENT = {"hflip": 0.5, "vflip": 0.5, "scale_jitter": [0.5, 2.0], "photometric": 0.5}
DataWith = Callable[..., JobData]


COMBINED = {
    "augment": [{"op": op, "p": 0.7} for op in ("mosaic", "mixup", "cutmix", "copy_paste", "hflip")],
    "multi_scale": [32, 96],
    "close_mosaic_epochs": 1,
}


def fingerprints(batches: Any) -> list[tuple[list[int], int]]:
    """Return the image ids and a checksum of the pixels of each batch."""
    return [
        (
            [info.image_id for info in batch.infos],
            int((batch.images.long() * (1 + torch.arange(batch.images.shape[-1]))).sum()),
        )
        for batch in batches
    ]


@pytest.mark.parametrize("steps", [{"augment": AUGMENT}, COMBINED], ids=["single", "combined"])
def test_workers_and_cache_do_not_change_the_batches(data_with: DataWith, steps: dict[str, Any]) -> None:
    seen = []
    for options in ({}, {"num_workers": 2}, {"num_workers": 2, "cache": "ram"}, {"cache": "ram"}):
        loader = data_with(**steps, **options).train_dataloader()
        epochs = []
        for epoch in range(2):
            loader.batch_sampler.set_epoch(epoch)
            epochs.append(fingerprints(loader))
        seen.append(epochs)
    assert seen[0][0] != seen[0][1]
    assert all(epochs == seen[0] for epochs in seen[1:])


def test_batch_of_a_worker_opens_one_file_and_has_equal_targets(data_with: DataWith) -> None:
    """Not one per tensor of each image: a few workers would open more files than a process may have."""
    loaders = [data_with(num_workers=number).train_dataloader() for number in (0, 2)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    alone, sent = (list(loader) for loader in loaders)
    num_files = len(list(Path("/proc/self/fd").iterdir())) - before
    num_tensors = sum(target is not None for batch in sent for of_task in batch.targets.values() for target in of_task)
    assert num_files < len(sent) + 20 < num_tensors
    for here, there in zip(alone, sent, strict=True):
        assert here.targets.keys() == there.targets.keys()
        for task in here.targets:
            for own, other in zip(here.targets[task], there.targets[task], strict=True):
                assert type(own) is type(other)
                for name, tensor in vars(own).items() if own is not None else ():
                    torch.testing.assert_close(getattr(other, name), tensor, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [{"augment": AUGMENT}, COMBINED], ids=["single", "combined"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_resumes_after_the_last_batch_of_another(
    data_with: DataWith, num_workers: int, steps: dict[str, Any]
) -> None:
    data = data_with(**steps, num_workers=num_workers)
    loader = data.train_dataloader()
    loader.batch_sampler.set_epoch(3)
    whole = fingerprints(loader)
    for stop in (0, 2, len(whole)):
        first, iterator = [], iter(loader)
        for _ in range(stop):
            first.append(next(iterator))
        resumed = data.train_dataloader()
        resumed.load_state_dict(loader.state_dict() if stop else {"epoch": 3, "batches_done": 0})
        assert len(resumed) == len(whole)
        assert fingerprints(first) + fingerprints(resumed) == whole
        resumed.batch_sampler.set_epoch(4)
        assert len(fingerprints(resumed)) == len(whole)


def test_every_task_is_a_key_and_missing_labels_are_none(data_with: DataWith) -> None:
    data = data_with()
    labels = {record.image_id: set(record.labels) for record in data.records("train")}
    for batch in data.train_dataloader():
        assert set(batch.targets) == {"cells", "kind", "lookup", "marks"}
        for task, targets in batch.targets.items():
            assert [target is not None for target in targets] == [task in labels[info.image_id] for info in batch.infos]


def test_images_without_labels_are_evaluated_but_not_used_for_training(data_with: DataWith) -> None:
    data = data_with()
    data.records("train")[0].labels.clear()
    trained = [info.image_id for batch in data.train_dataloader() for info in batch.infos]
    assert sorted(trained) == list(range(2, 12))
    assert len([info for batch in data.loader("train") for info in batch.infos]) == 11


def test_evaluation_batches_have_one_padded_size_and_are_reproducible(data_with: DataWith) -> None:
    loader = data_with(augment=AUGMENT).loader("train")
    assert fingerprints(loader) == fingerprints(loader)
    for batch in loader:
        assert len({(-(-h // 32), -(-w // 32)) for h, w in (info.size_hw for info in batch.infos)}) == 1


def test_train_split_without_labels_is_an_error(data_with: DataWith) -> None:
    data = data_with()
    for record in data.records("train"):
        record.labels.clear()
    with pytest.raises(DataError, match="no image of the train split is labeled"):
        data.train_dataloader()


class Recorder(lightning.LightningModule):
    """Records its batches, and saves a checkpoint after a given batch or at the end of an epoch."""

    def __init__(self, checkpoint: Path, save_at: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.checkpoint = checkpoint
        self.save_at = save_at
        self.seen: list[tuple[int, int, Any]] = []
        self.evaluated: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen.append((self.current_epoch, batch_idx, fingerprints([batch])[0]))
        return self.layer(torch.ones(1)).sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluated += [info.image_id for info in batch.infos]

    test_step = validation_step

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.save_at == (self.current_epoch, batch_idx):
            self.trainer.save_checkpoint(self.checkpoint)

    def on_train_epoch_end(self) -> None:
        if self.save_at == (self.current_epoch, -1):
            self.trainer.save_checkpoint(self.checkpoint)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**options: Any) -> lightning.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    quiet["num_sanity_val_steps"] = 0
    settings = quiet | {"max_epochs": 3, "accelerator": "cpu", "use_distributed_sampler": False} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lightning.Trainer(**settings)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_run_gets_the_batches_of_the_uninterrupted_run(
    data_with: DataWith, tmp_path: Path, num_workers: int
) -> None:
    whole = Recorder(tmp_path / "x.ckpt")
    trainer().fit(whole, datamodule=data_with(augment=AUGMENT, num_workers=num_workers))
    per_epoch = len(whole.seen) // 3
    assert [step[:2] for step in whole.seen] == [(epoch, step) for epoch in range(3) for step in range(per_epoch)]
    assert sorted(whole.evaluated) == sorted(3 * [12, 13, 14, 15, 16])
    assert all(a != b for a, b in pairwise(step[2] for step in whole.seen))

    stops = [(1, 2), (1, -1)] if num_workers else [(0, 0), (0, 2), (1, 2), (1, per_epoch - 1), (1, -1)]
    for stop in stops:
        checkpoint = tmp_path / f"{stop}.ckpt"
        trainer(max_epochs=2).fit(
            Recorder(checkpoint, save_at=stop), datamodule=data_with(augment=AUGMENT, num_workers=num_workers)
        )
        resumed = Recorder(checkpoint)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*not resumable.*")
            trainer().fit(
                resumed,
                datamodule=data_with(augment=AUGMENT, num_workers=num_workers),
                ckpt_path=checkpoint,
                weights_only=False,
            )
        done = stop[0] * per_epoch + (per_epoch if stop[1] == -1 else stop[1] + 1)
        assert resumed.seen == whole.seen[done:], stop


def test_resumed_run_with_combined_images_gets_the_batches_of_the_uninterrupted_run(
    data_with: DataWith, tmp_path: Path
) -> None:
    whole = Recorder(tmp_path / "x.ckpt")
    trainer().fit(whole, datamodule=data_with(**COMBINED))
    plain = Recorder(tmp_path / "y.ckpt")
    trainer().fit(plain, datamodule=data_with(**COMBINED | {"augment": [{"op": "hflip", "p": 0.7}]}))
    per_epoch = len(whole.seen) // 3
    assert whole.seen[: 2 * per_epoch] != plain.seen[: 2 * per_epoch]
    assert whole.seen[2 * per_epoch :] == plain.seen[2 * per_epoch :], "the last epoch has no combined images"
    for stop in ((0, 2), (1, per_epoch - 1), (2, 1)):
        checkpoint = tmp_path / f"{stop}.ckpt"
        trainer().fit(Recorder(checkpoint, save_at=stop), datamodule=data_with(**COMBINED))
        resumed = Recorder(checkpoint)
        trainer().fit(
            resumed, datamodule=data_with(**COMBINED, num_workers=1), ckpt_path=checkpoint, weights_only=False
        )
        assert resumed.seen == whole.seen[stop[0] * per_epoch + stop[1] + 1 :]


def test_epochs_without_combined_images_are_the_last_ones_of_the_trainer(data_with: DataWith, tmp_path: Path) -> None:
    """A checkpoint that is trained for more epochs has its combined images until the new last epoch."""
    checkpoint = tmp_path / "short.ckpt"
    trainer(max_epochs=2).fit(Recorder(checkpoint, save_at=(1, -1)), datamodule=data_with(**COMBINED))
    whole, extended = Recorder(tmp_path / "x.ckpt"), Recorder(checkpoint)
    trainer(max_epochs=4).fit(whole, datamodule=data_with(**COMBINED))
    trainer(max_epochs=4).fit(extended, datamodule=data_with(**COMBINED), ckpt_path=checkpoint, weights_only=False)
    assert extended.seen == whole.seen[len(whole.seen) // 2 :]


LABELS = [{"format": "coco", "path": "x.json", "tasks": ["cells", "kind", "lookup", "marks"]}]
MIXED = {
    "mix": "temperature",
    "sources": {
        "big": {
            "images": ".",
            "labels": LABELS,
            "batch_size": 4,
            "sampler": {"kind": "pk", "task": "lookup", "p": 2, "k": 2},
        },
        "small": {
            "images": ".",
            "labels": LABELS,
            "batch_size": 2,
            "sampler": {"kind": "repeat_factor", "task": "kind", "threshold": 1.0},
        },
    },
}
"""Images 5 and 10 of "big" have no objects, so they are not drawn."""


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_run_with_identities_rare_classes_and_temperature_gets_the_same_batches(
    data_with: DataWith, tmp_path: Path, num_workers: int
) -> None:
    options = MIXED | {"augment": AUGMENT}
    whole = Recorder(tmp_path / "x.ckpt")
    trainer(max_epochs=4).fit(whole, datamodule=data_with(**options))
    assert [step[:2] for step in whole.seen] == [(epoch, step) for epoch in range(4) for step in range(3)]
    batches = [ids for _, _, (ids, _) in whole.seen]
    big = [ids for ids in batches if len(ids) == 4]
    assert len(big) == 4
    assert {image for ids in big for image in ids} == {1, 2, 3, 6, 7, 9, 11}
    for ids in big:
        # In images 2 and 6 the box of "new" is not a crowd; the two other images of the batch are drawn for "ben".
        assert sum(image in (2, 6) for image in ids) >= 2
    assert {image for ids in batches if len(ids) == 2 for image in ids} == {4, 8}

    checkpoint = tmp_path / "stopped.ckpt"
    options |= {"num_workers": num_workers}
    trainer(max_epochs=2).fit(Recorder(checkpoint, save_at=(1, 1)), datamodule=data_with(**options))
    resumed = Recorder(checkpoint)
    trainer(max_epochs=4).fit(resumed, datamodule=data_with(**options), ckpt_path=checkpoint, weights_only=False)
    assert resumed.seen == whole.seen[5:]


def test_plain_trainer_uses_the_data_module_without_further_settings(data_with: DataWith, tmp_path: Path) -> None:
    data, module = data_with(augment=[{"op": "hflip"}], cache="ram"), Recorder(tmp_path / "x.ckpt")
    plain = trainer(max_epochs=1, use_distributed_sampler=True)
    plain.fit(module, datamodule=data)
    plain.test(module, datamodule=data_with(num_workers=0))
    assert len(module.seen) == data.num_train_batches()
    assert sorted(module.evaluated) == [12, 13, 14, 15, 16]


def test_validate_and_test_draw_each_image_once(data_with: DataWith, tmp_path: Path) -> None:
    data = data_with()
    data.test_split = "val"
    for run in ("validate", "test"):
        module = Recorder(tmp_path / "x.ckpt")
        getattr(trainer(), run)(module, datamodule=data)
        assert sorted(module.evaluated) == [12, 13, 14, 15, 16]


def test_run_without_a_val_split_trains(data_with: DataWith, tmp_path: Path) -> None:
    data = data_with()
    data.index.records["val"].clear()
    module = Recorder(tmp_path / "x.ckpt")
    trainer(max_epochs=1).fit(module, datamodule=data)
    assert len(module.seen) == len(data.train_dataloader())
    assert module.evaluated == []
