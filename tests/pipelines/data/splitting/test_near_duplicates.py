"""Copies of an image and neighboring frames are found; images that differ in small objects are not."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from pipelines.data.splitting.groups import DisjointGroups
from pipelines.data.splitting.near_duplicates import DEFAULT_DISTANCE, difference_hash, join_near_duplicates


def scene(seed: int) -> Image.Image:
    """Smooth random content, as in photos."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC)


def with_square(left: int) -> Image.Image:
    """A white image with a small square."""
    image = Image.new("RGB", (160, 120), "white")
    image.paste((20, 30, 40), (left, 50, left + 12, 62))
    return image


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def groups_of(images: list[Image.Image | None], distance: int = DEFAULT_DISTANCE) -> list[list[int]]:
    groups = DisjointGroups(len(images))
    readers = [None if image is None else (lambda image=image: image) for image in images]
    num_near = join_near_duplicates(groups, readers, distance)
    several = [group for group in groups.groups() if len(group) > 1]
    assert num_near == sum(map(len, several))
    return several


@pytest.mark.parametrize(
    "copy",
    [
        lambda image: as_jpeg(image, 20),
        lambda image: image.resize((90, 67)),
        lambda image: ImageEnhance.Brightness(image).enhance(0.6),
        lambda image: ImageEnhance.Contrast(image).enhance(0.7),
        lambda image: image.convert("L").convert("RGB"),
    ],
)
def test_changed_copy_is_a_near_duplicate(copy: object) -> None:
    assert callable(copy)
    images = [scene(1), scene(2), copy(scene(1)), copy(scene(2)), scene(3)]
    assert groups_of(images) == [[0, 2], [1, 3]]


def test_images_with_an_object_at_different_places_are_not_near_duplicates() -> None:
    assert groups_of([with_square(left) for left in (10, 60, 110)]) == []
    assert groups_of([with_square(60), with_square(61)]) == [[0, 1]]


def test_unreadable_and_uniform_images_have_no_near_duplicate() -> None:
    assert groups_of([Image.new("RGB", (40, 30), "red"), None, Image.new("RGB", (40, 30), "red"), scene(4)]) == []
    assert groups_of([None, None]) == []


@settings(max_examples=25)
@given(st.integers(0, 10), st.integers(0, 100))
def test_every_pair_within_the_distance_is_found(distance: int, seed: int) -> None:
    """Bands of the hash find the same pairs as a comparison of all."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(6):
        base = np.asarray(scene(seed + number), dtype=np.int16)
        images += [base, base + rng.integers(-60, 61, base.shape)]
    pictures = [Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)) for image in images]
    hashes = [difference_hash(picture.convert("L")) for picture in pictures]
    expected = {
        (first, first + 1)
        for first in range(0, len(hashes), 2)
        if (hashes[first] ^ hashes[first + 1]).bit_count() <= distance
    }
    assert {tuple(group) for group in groups_of(list(pictures), distance)} == expected
