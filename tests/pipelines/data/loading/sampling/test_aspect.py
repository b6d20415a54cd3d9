"""Batches of similar aspect ratio, and sizes of batches."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.base.records import ImageRecord
from pipelines.data.loading.planned_sample import fitted_size
from pipelines.data.loading.sample import SampleKey, padded_size
from pipelines.data.loading.sampling.create import create_train_sampler
from pipelines.spec.data import DataSpec

LAYER = {"format": "coco", "path": "x.json", "tasks": ["cells"]}
SIZES_HW = [(480, 640), (640, 480), (640, 640), (360, 640), (640, 427)]


def records_of(count: int, source: str = "a") -> list[ImageRecord]:
    """Return images with five aspect ratios; their order is random."""
    kinds = np.random.default_rng(0).integers(len(SIZES_HW), size=count)
    return [
        ImageRecord(number, source, "train", f"{number}.png", Path(f"{number}.png"), *SIZES_HW[kind], {"cells": []})
        for number, kind in enumerate(kinds)
    ]


def batches_of(
    records: list[ImageRecord], epoch: int = 0, rank: int = 0, world_size: int = 1, **options: Any
) -> list[list[SampleKey]]:
    sampler = {"kind": "shuffle", "group_by_aspect": True} | options.pop("sampler", {})
    max_epochs = options.pop("max_epochs", None)
    source = {"images": ".", "labels": [LAYER], "batch_size": 4, "sampler": sampler}
    sources = dict.fromkeys(sorted({record.source for record in records}), source)
    spec = DataSpec.model_validate({"root": "x", "sources": sources} | options)
    created = create_train_sampler(
        spec, ["cells"], records, seed=3, rank=rank, world_size=world_size, max_epochs=max_epochs
    )
    return created.batches(epoch)


def padded_share(records: list[ImageRecord], batches: list[list[SampleKey]]) -> float:
    """Return the share of the pixels of an epoch that are padding, at an image size of 640."""
    pixels = computed = 0
    for batch in batches:
        sizes = [fitted_size((records[key.index].height, records[key.index].width), 640) for key in batch]
        height, width = padded_size((max(h for h, _ in sizes), max(w for _, w in sizes)))
        pixels += sum(h * w for h, w in sizes)
        computed += height * width * len(batch)
    return 1 - pixels / computed


def test_grouped_batches_have_less_padding() -> None:
    records = records_of(803)
    plain = padded_share(records, batches_of(records, sampler={"group_by_aspect": False}))
    assert plain > 0.2
    assert padded_share(records, batches_of(records)) < 0.05


@pytest.mark.parametrize("mix", ["interleave", "concat", "proportional"])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_grouping_keeps_the_draws_and_the_sizes_of_the_steps(mix: str, world_size: int) -> None:
    records = [*records_of(101), *records_of(50, "b")]
    orders = []
    for epoch in range(3):
        grouped, plain = (
            [
                batches_of(records, epoch, rank, world_size, mix=mix, sampler={"group_by_aspect": is_grouped})
                for rank in range(world_size)
            ]
            for is_grouped in (True, False)
        )
        for one, other in zip(grouped, plain, strict=True):
            assert [len(batch) for batch in one] == [len(batch) for batch in other]
        drawn, expected = (
            Counter((key.index, key.repeat) for of_rank in batches for batch in of_rank for key in batch)
            for batches in (grouped, plain)
        )
        assert drawn == expected
        orders.append([[key.index for key in batch] for batch in grouped[0]])
        assert orders[-1] == [
            [key.index for key in batch] for batch in batches_of(records, epoch, 0, world_size, mix=mix)
        ]
    assert orders[0] != orders[1] != orders[2]


def test_images_of_one_step_are_similar_on_all_ranks() -> None:
    records = records_of(400)
    by_rank = [batches_of(records, 0, rank, 2) for rank in range(2)]
    kinds = [{records[key.index].width for batch in step for key in batch} for step in zip(*by_rank, strict=True)]
    assert np.mean([len(of_step) == 1 for of_step in kinds]) > 0.6


def test_images_of_equal_aspect_ratio_meet_in_different_batches_in_each_epoch() -> None:
    records = [record for record in records_of(300) if record.width == 480]
    together = [{frozenset(key.index for key in batch) for batch in batches_of(records, epoch)} for epoch in range(2)]
    assert not together[0] & together[1]


def test_images_of_rare_classes_can_be_grouped_too() -> None:
    records = records_of(60)
    keys = [k for b in batches_of(records, sampler={"kind": "repeat_factor", "task": "cells"}) for k in b]
    assert {key.index for key in keys} == set(range(60))


def test_size_of_a_step_is_equal_on_all_ranks_and_changes_from_step_to_step() -> None:
    records = records_of(200)
    options: dict[str, Any] = {"multi_scale": [320, 640], "image_size": 512}
    epochs = []
    for epoch in range(2):
        by_rank = [batches_of(records, epoch, rank, 2, **options) for rank in range(2)]
        steps = [{key.image_size for batch in step for key in batch} for step in zip(*by_rank, strict=True)]
        assert all(len(sizes) == 1 for sizes in steps)
        epochs.append([size for sizes in steps for size in sizes])
        assert set(epochs[-1]) <= set(range(320, 641, 32))
        assert len(set(epochs[-1])) > 5
    assert epochs[0] != epochs[1]
    assert {key.image_size for batch in batches_of(records) for key in batch} == {None}


def test_sample_keys_differ_only_by_the_step_on_one_and_two_ranks() -> None:
    """Samples are functions of their keys, so two ranks train on the samples of one with twice the batch size."""
    records = records_of(80)
    options: dict[str, Any] = {"multi_scale": [320, 640], "max_epochs": 10, "close_mosaic_epochs": 3}
    for epoch in (0, 6, 7):
        by_rank = [batches_of(records, epoch, rank, 2, **options) for rank in range(2)]
        joint = [Counter(key for batch in step for key in batch) for step in zip(*by_rank, strict=True)]
        single = batches_of(records, epoch, 0, 1, **options)
        assert {key.is_combined for step in joint for key in step} == {epoch < 7}
        of_image = {(key.index, key.repeat) for batch in single for key in batch}
        assert {(key.index, key.repeat) for step in joint for key in step} == of_image
