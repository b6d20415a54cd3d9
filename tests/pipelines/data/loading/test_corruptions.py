"""Corruptions of images: their strengths, their place before resizing, and the noise of each image."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from heads.base import BoxTarget
from pipelines.base.records import ImageRecord
from pipelines.data.loading.corruptions import CORRUPTIONS, STRENGTHS, CorruptedImages, all_corruptions
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import SampleKey

RECORD = ImageRecord(5, "plates", "test", "a/b.jpg", Path("b.jpg"))


@pytest.fixture(scope="module")
def image() -> Tensor:
    """Return a picture (3, 240, 320) of squares in different colors, with fine noise, in HWC memory."""
    rng = np.random.default_rng(0)
    squares = rng.integers(40, 216, (24, 32, 3)).repeat(10, axis=0).repeat(10, axis=1)
    return torch.from_numpy((squares + rng.integers(-20, 20, squares.shape)).astype(np.uint8)).permute(2, 0, 1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_strength_is_farther_from_the_clean_image(name: str, image: Tensor) -> None:
    before = image.clone()
    changed = [CorruptedImages(name, strength).apply(image, RECORD) for strength in STRENGTHS]
    assert all(other.shape == image.shape and other.dtype == torch.uint8 for other in changed)
    distances = [float((other.float() - image.float()).abs().mean()) for other in changed]
    assert 1 < distances[0] < distances[1] < distances[2]
    assert torch.equal(image, before)


def test_noise_depends_on_the_image_and_not_on_earlier_images(image: Tensor) -> None:
    noise = CorruptedImages("noise", 1)
    first = noise.apply(image, RECORD)
    other = noise.apply(image, replace(RECORD, file_name="a/c.jpg"))
    assert torch.equal(first, noise.apply(image, replace(RECORD, image_id=99, split="val")))
    assert not torch.equal(first, other)


def test_noise_has_the_deviation_that_its_setting_names() -> None:
    gray = torch.full((3, 200, 200), 128, dtype=torch.uint8)
    corruption = CorruptedImages("noise", 1)
    assert corruption.setting == "Gaussian with a standard deviation of 8% of the range"
    assert float(corruption.apply(gray, RECORD).float().std()) == pytest.approx(0.08 * 255, rel=0.01)


def test_brightness_and_contrast_are_those_computed_by_hand() -> None:
    gray = torch.tensor([100, 200], dtype=torch.uint8).expand(3, 1, 2)
    assert CorruptedImages("brightness", 2).apply(gray, RECORD)[0].tolist() == [[40, 80]]
    # The mean of 150 stays, and the differences from it shrink to 40 %.
    assert CorruptedImages("contrast", 1).apply(gray, RECORD)[0].tolist() == [[130, 170]]


def test_rescaling_removes_detail_below_its_factor_and_keeps_the_place_of_edges() -> None:
    stripes = torch.tensor([0, 255], dtype=torch.uint8).repeat(32).expand(3, 16, 64)
    assert float(CorruptedImages("rescale", 1).apply(stripes, RECORD).float().std()) < 10
    halves = torch.cat([torch.zeros(3, 16, 32), torch.full((3, 16, 32), 255.0)], dim=2).to(torch.uint8)
    changed = CorruptedImages("rescale", 3).apply(halves, RECORD)[0, 8].float()
    assert float((changed > 127).float().argmax()) == pytest.approx(32, abs=1)


def test_every_setting_is_a_text_of_its_own() -> None:
    texts = [f"{corruption.name} {corruption.setting}" for corruption in all_corruptions()]
    assert len(set(texts)) == len(texts) == 18
    assert texts[0] == "blur Gaussian with a standard deviation of 0.25% of the longer side"


def test_images_are_corrupted_before_they_are_resized_and_boxes_stay(data_with: Callable[..., JobData]) -> None:
    data = data_with(image_size=64)
    clean = [data.dataset("val", augmented=False)[SampleKey(0, index)] for index in range(2)]
    corruption = CorruptedImages("blur", 3)
    dataset = data.dataset("val", augmented=False)
    data.test_split, data.corruption = "val", corruption
    data.test_dataloader()
    for index, sample in enumerate(clean):
        changed = dataset[SampleKey(0, index)]
        record = dataset.records[index]
        expected = dataset.transform(corruption.apply(dataset._decode(record), record), {}).image
        assert torch.equal(changed.image, expected)
        assert not torch.equal(changed.image, sample.image)
        for name, target in sample.targets.items():
            if isinstance(target, BoxTarget):
                assert torch.equal(target.boxes_xyxy, changed.targets[name].boxes_xyxy)
    data.corruption = None
    data.test_dataloader()
    assert torch.equal(dataset[SampleKey(0, 0)].image, clean[0].image)
