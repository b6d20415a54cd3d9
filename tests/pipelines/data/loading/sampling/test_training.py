"""Batches of interleaved shuffled sources, and properties of every mix and sampler."""

import hashlib
import json
from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.loading.sample import SampleKey
from pipelines.data.loading.sampling.identities import PKSource
from pipelines.data.loading.sampling.images import ImageSource, Repeated, Shuffled
from pipelines.data.loading.sampling.mixing import Concatenated, InProportion, Interleaved, Mix
from pipelines.data.loading.sampling.training import TrainBatchSampler

FACTORS = np.array([1.0, 1.0, 1.0, 1.5, 1.25, 2.5, 3.0, 1.0, 1.0])
MIXES = {"interleave": 0.0, "concat": 0.0, "proportional": 1.0, "temperature": 3.0}
SOURCES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 7)), min_size=1, max_size=3)


def train_samplers(sources: list[tuple[int, int]], seed: int = 0, world_size: int = 1) -> list[TrainBatchSampler]:
    """Return one sampler per rank; source k has sources[k][0] images at k * 100, k * 100 + 1, ..."""
    return [
        TrainBatchSampler(
            Interleaved(
                {
                    f"s{k}": ImageSource(
                        Shuffled(range(k * 100, k * 100 + count), seed=seed, source=k), size, world_size
                    )
                    for k, (count, size) in enumerate(sources)
                },
                seed,
            ),
            rank=rank,
        )
        for rank in range(world_size)
    ]


def test_interleaved_and_shuffled_batches_match_recorded_ones() -> None:
    """They were recorded before other samplers existed, so that runs of that version resume with the same images."""

    def batches(sources: list[tuple[int, int]], seed: int, rank: int, world_size: int, epoch: int) -> list[list[int]]:
        drawn = train_samplers(sources, seed, world_size)[rank].batches(epoch)
        assert {key.repeat for batch in drawn for key in batch} == {0}
        return [[key.index for key in batch] for batch in drawn]

    two = [(5, 2), (7, 3)]
    assert batches(two, 3, 0, 1, 0) == [[3, 0], [104, 101, 100], [2, 4], [106, 105, 103], [1], [102]]
    assert batches(two, 3, 0, 1, 1) == [[4, 1], [102, 100, 104], [2, 3], [103, 101, 106], [0], [105]]
    assert batches(two, 3, 0, 2, 1) == [[4, 2], [102, 104, 101], [0], [105]]
    assert batches(two, 3, 1, 2, 1) == [[1, 3], [100, 103, 106], [4], [102]]
    digest = hashlib.sha256()
    for sources in ([(40, 7)], two, [(33, 4), (1, 2), (90, 5)]):
        for world_size in (1, 2, 3):
            for rank in range(world_size):
                for epoch in range(4):
                    digest.update(json.dumps(batches(sources, 11, rank, world_size, epoch)).encode())
    assert digest.hexdigest() == "024901cbfade00e74dd4beedf8f493c0644be409691047488598139919a00247"


@given(sources=SOURCES, seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000))
def test_epoch_draws_each_image_once_in_batches_of_one_source(
    sources: list[tuple[int, int]], seed: int, epoch: int
) -> None:
    (sampler,) = train_samplers(sources, seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    keys = list(chain.from_iterable(batches))
    assert {key.epoch for key in keys} == {epoch}
    assert sorted(key.index for key in keys) == [
        k * 100 + i for k, (count, _) in enumerate(sources) for i in range(count)
    ]
    assert len(batches) == len(sampler)
    for batch in batches:
        (source,) = {key.index // 100 for key in batch}
        assert len(batch) <= sources[source][1]


@given(sources=SOURCES, world_size=st.integers(1, 4), epoch=st.integers(0, 9))
def test_ranks_agree_on_the_source_of_each_step_and_draw_all_images(
    sources: list[tuple[int, int]], world_size: int, epoch: int
) -> None:
    by_rank = []
    for sampler in train_samplers(sources, world_size=world_size):
        sampler.set_epoch(epoch)
        by_rank.append(list(sampler))
        assert len(by_rank[-1]) == len(sampler)
    for step in zip(*by_rank, strict=True):
        assert len({(len(batch), batch[0].index // 100) for batch in step}) == 1
    drawn = Counter(key.index for batches in by_rank for batch in batches for key in batch)
    assert set(drawn) == {k * 100 + i for k, (count, _) in enumerate(sources) for i in range(count)}
    for k, (count, _) in enumerate(sources):
        of_source = {index: times for index, times in drawn.items() if index // 100 == k}
        assert sum(of_source.values()) == -(-count // world_size) * world_size
        assert max(of_source.values()) - min(of_source.values()) <= 1


@given(sources=SOURCES, epoch=st.integers(0, 5), data=st.data())
def test_start_at_applies_to_one_iteration(sources: list[tuple[int, int]], epoch: int, data: st.DataObject) -> None:
    (sampler,) = train_samplers(sources)
    sampler.set_epoch(epoch)
    whole = list(sampler)
    start = data.draw(st.integers(0, len(whole)))
    sampler.start_at(start)
    sampler.set_epoch(epoch)
    assert len(sampler) == len(whole)
    assert list(sampler) == whole[start:]
    assert list(sampler) == whole


def test_new_epoch_starts_at_its_first_batch() -> None:
    (sampler,) = train_samplers([(20, 3)])
    sampler.start_at(4)
    sampler.set_epoch(1)
    assert len(list(sampler)) == 7


def test_order_depends_on_seed_and_epoch_but_not_on_the_order_of_sources() -> None:
    def order(seed: int, epoch: int) -> list[list[SampleKey]]:
        (sampler,) = train_samplers([(30, 4), (10, 2)], seed)
        return [[SampleKey(0, key.index) for key in batch] for batch in sampler.batches(epoch)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    a = ImageSource(Shuffled(range(5), seed=3, source=0), 2)
    b = ImageSource(Shuffled(range(100, 107), seed=3, source=1), 3)
    forward, backward = (TrainBatchSampler(Interleaved(of, 3)) for of in ({"a": a, "b": b}, {"b": b, "a": a}))
    assert list(forward) == list(backward)


@given(counts=st.tuples(st.integers(1, 60), st.integers(1, 60)), epoch=st.integers(0, 5))
def test_batches_of_a_source_are_spread_evenly(counts: tuple[int, int], epoch: int) -> None:
    (sampler,) = train_samplers([(counts[0], 1), (counts[1], 1)])
    turns = [batch[0].index // 100 for batch in sampler.batches(epoch)]
    for end in range(len(turns) + 1):
        for source, count in enumerate(counts):
            assert abs(turns[:end].count(source) - end * count / len(turns)) <= 1 + 1e-9


def mixed(name: str, world_size: int) -> Mix:
    """Return a mix of 20 images, 9 images with repeats, and (except for concat) 31 images drawn by identity."""
    a = ImageSource(Shuffled(range(20), seed=5, source=0), 3, world_size)
    b = ImageSource(Repeated(range(100, 109), FACTORS, seed=5, source=1), 3, world_size)
    if name == "concat":
        return Concatenated({"a": a, "b": b}, 5)
    images = {f"id{j}": range(200 + 5 * j, 205 + 5 * j) for j in range(6)}
    c = PKSource(images | {"few": [230]}, 2, 3, seed=5, source=2, world_size=world_size)
    sources = {"a": a, "b": b, "c": c}
    return Interleaved(sources, 5) if name == "interleave" else InProportion(sources, 5, MIXES[name])


@pytest.mark.parametrize("name", MIXES)
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_steps_of_every_mix_agree_on_all_ranks_and_change_each_epoch(name: str, world_size: int) -> None:
    samplers = [TrainBatchSampler(mixed(name, world_size), rank=rank) for rank in range(world_size)]
    epochs = []
    for epoch in range(4):
        by_rank = [sampler.batches(epoch) for sampler in samplers]
        assert {len(batches) for batches in by_rank} == {len(sampler) for sampler in samplers}
        for step in zip(*by_rank, strict=True):
            assert len({len(batch) for batch in step}) == 1
            if name != "concat":
                assert len({key.index // 100 for batch in step for key in batch}) == 1
        assert {key.epoch for batches in by_rank for batch in batches for key in batch} == {epoch}
        epochs.append([[(key.index, key.repeat) for key in batch] for batch in by_rank[-1]])
    assert all(a != b for j, a in enumerate(epochs) for b in epochs[:j])


@pytest.mark.parametrize("name", MIXES)
def test_every_mix_depends_only_on_the_epoch_and_can_resume_inside_it(name: str) -> None:
    sampler = TrainBatchSampler(mixed(name, 2), rank=1)
    in_order = [sampler.batches(epoch) for epoch in range(5)]
    for epoch in (4, 1, 3):
        fresh = TrainBatchSampler(mixed(name, 2), rank=1)
        fresh.set_epoch(epoch)
        for start in (0, 1, len(fresh) - 1, len(fresh)):
            fresh.start_at(start)
            assert list(fresh) == in_order[epoch][start:]


@pytest.mark.parametrize("name", MIXES)
def test_repeated_images_of_an_epoch_are_numbered(name: str) -> None:
    """The number makes augmentations differ; copies that only pad the shares of the ranks have equal numbers."""
    for epoch in range(3):
        keys = [key for batch in TrainBatchSampler(mixed(name, 1)).batches(epoch) for key in batch]
        assert len(set(keys)) == len(keys)
        times = Counter(key.index for key in keys)
        assert max(times.values()) > 1
        for index, count in times.items():
            assert {key.repeat for key in keys if key.index == index} == set(range(count))
