"""Samples of images as functions of their keys, and their collation into batches."""

from collections.abc import Callable

import pytest
import torch
from PIL import Image

from heads.base import BoxTarget
from pipelines.base.errors import DataError
from pipelines.data.loading.collate import Collate
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import ImageInfo, Sample, SampleKey

AUGMENT = {"hflip": 0.5, "vflip": 0.5, "scale_jitter": [0.5, 2.0], "photometric": 0.5}
DataWith = Callable[..., JobData]


def assert_equal(a: Sample, b: Sample) -> None:
    assert torch.equal(a.image, b.image)
    assert a.info == b.info
    for task, target in a.targets.items():
        if isinstance(target, BoxTarget):
            other = b.targets[task]
            assert isinstance(other, BoxTarget)
            assert torch.equal(target.boxes_xyxy, other.boxes_xyxy)


def test_sample_depends_on_its_key_and_not_on_earlier_draws(data_with: DataWith) -> None:
    data = data_with(augment=AUGMENT)
    dataset = data.dataset("train", augmented=True)
    first = [dataset[SampleKey(2, index)] for index in range(5)]
    torch.rand(7)
    for index in reversed(range(5)):
        assert_equal(first[index], dataset[SampleKey(2, index)])


def test_epoch_index_and_seed_change_the_sample(data_with: DataWith) -> None:
    data = data_with(augment=AUGMENT)
    dataset = data.dataset("train", augmented=True)
    pictures = [dataset[SampleKey(epoch, 0)].image for epoch in range(4)]
    dataset.seed = 8
    pictures.append(dataset[SampleKey(0, 0)].image)
    assert sum(torch.equal(a, b) for i, a in enumerate(pictures) for b in pictures[:i]) == 0


def test_repeated_image_of_an_epoch_is_augmented_differently(data_with: DataWith) -> None:
    dataset = data_with(augment=AUGMENT).dataset("train", augmented=True)
    pictures = [dataset[SampleKey(1, 0, repeat)].image for repeat in range(4)]
    assert sum(torch.equal(a, b) for i, a in enumerate(pictures) for b in pictures[:i]) == 0
    assert torch.equal(pictures[0], dataset[SampleKey(1, 0)].image)


def test_drawing_samples_does_not_change_the_global_random_state(data_with: DataWith) -> None:
    state = torch.get_rng_state()
    for _ in data_with(augment=AUGMENT).train_dataloader():
        pass
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("augmented", [True, False])
def test_samples_of_cached_images_are_the_same_without_their_files(data_with: DataWith, augmented: bool) -> None:
    plain = data_with(augment=AUGMENT).dataset("train", augmented=augmented)
    cached = data_with(augment=AUGMENT).dataset("train", augmented=augmented)
    expected = [plain[SampleKey(1, index)] for index in range(len(plain))]
    cached.fill_cache()
    for record in cached.records:
        record.path.unlink()
    for _ in range(2):
        for index, sample in enumerate(expected):
            assert_equal(sample, cached[SampleKey(1, index)])


def test_eval_keeps_the_boxes_of_the_record_in_order(data_with: DataWith) -> None:
    dataset = data_with().dataset("val", augmented=False)
    for index, record in enumerate(dataset.records):
        target = dataset[SampleKey(0, index)].targets["cells"]
        assert isinstance(target, BoxTarget)
        assert len(target.boxes_xyxy) == len(record.labels["cells"])


def test_image_that_changed_after_indexing_is_reported(data_with: DataWith) -> None:
    dataset = data_with().dataset("train", augmented=False)
    Image.new("RGB", (33, 44)).save(dataset.records[0].path)
    with pytest.raises(DataError, match=r"000\.png: is 33 x 44 pixels, but the index says 120 x 80"):
        dataset[SampleKey(0, 0)]


def test_unreadable_image_is_also_reported_by_a_worker(data_with: DataWith) -> None:
    data = data_with(num_workers=1)
    data.records("train")[0].path.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"000\.png: "):
        list(data.train_dataloader())


def test_batch_is_padded_to_multiples_of_32_with_none_for_unlabeled_tasks() -> None:
    def sample(height: int, width: int, **targets: BoxTarget) -> Sample:
        info = ImageInfo(1, "x", "s", (height, width), (height, width), (1.0, 1.0))
        return Sample(torch.full((3, height, width), 9, dtype=torch.uint8), info, dict(targets))

    empty = BoxTarget(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), torch.zeros(0))
    batch = Collate(["b", "a"])([sample(40, 31, a=empty), sample(20, 64)])
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.images.dtype == torch.uint8
    assert (batch.images[0, :, :40, :31] == 9).all()
    assert batch.images[0].sum() == 3 * 40 * 31 * 9
    assert batch.targets == {"a": [empty, None], "b": [None, None]}
    assert len(batch) == 2


def test_batch_is_moved_to_a_device_with_all_its_targets(data_with: DataWith) -> None:
    batch = next(iter(data_with().train_dataloader()))
    moved = batch.to("meta")
    assert moved.images.device.type == "meta"
    for task, targets in moved.targets.items():
        for target, original in zip(targets, batch.targets[task], strict=True):
            assert (target is None) == (original is None)
            if target is not None:
                assert all(value.device.type == "meta" for value in vars(target).values())
    assert batch.images.device.type == "cpu"
