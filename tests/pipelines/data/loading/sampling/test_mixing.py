"""Mixes of the batches of several sources."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.loading.sampling.images import ImageSource, Repeated, Shuffled
from pipelines.data.loading.sampling.mixing import Concatenated, InProportion, Interleaved, Mix, share_out

COUNTS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 6)), min_size=1, max_size=4)


def sources_of(counts: list[tuple[int, int]], world_size: int = 1) -> dict[str, ImageSource]:
    """Return sources; source k has counts[k][0] images at k * 100, k * 100 + 1, ..., and batches of counts[k][1]."""
    return {
        f"s{k}": ImageSource(Shuffled(range(k * 100, k * 100 + count), seed=1, source=k), size, world_size)
        for k, (count, size) in enumerate(counts)
    }


def images_by_source(mix: Mix, epoch: int) -> Counter[int]:
    return Counter((np.concatenate([b[..., 0].reshape(-1) for b in mix.epoch(epoch)]) // 100).tolist())


@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), more=st.integers(0, 200))
def test_shares_are_exact_at_least_one_and_within_one_of_the_quota(weights: list[float], more: int) -> None:
    total = len(weights) + more
    shares = share_out(total, weights)
    assert sum(shares) == total
    assert min(shares) >= 1
    quotas = [total * weight / sum(weights) for weight in weights]
    if min(quotas) >= 1:
        assert all(abs(share - quota) < 1 + 1e-6 for share, quota in zip(shares, quotas, strict=True))
    assert all(
        a >= b
        for a, wa in zip(shares, weights, strict=True)
        for b, wb in zip(shares, weights, strict=True)
        if wa > wb * (1 + 1e-6)
    )


def test_rest_is_given_to_the_largest_remainders() -> None:
    assert share_out(10, [5.5, 3.3, 1.2]) == [6, 3, 1]
    assert share_out(10, [5.2, 3.3, 1.5]) == [5, 3, 2]
    assert share_out(4, [97, 1, 1, 1]) == [1, 1, 1, 1]
    assert share_out(10, [97, 2, 1]) == [8, 1, 1]
    assert share_out(6, [1, 1, 1]) == [2, 2, 2]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_images_are_drawn_in_proportion_to_a_power_of_their_number(world_size: int) -> None:
    """Images are 8 to 1, so draws are 2 to 1 at temperature 3; with batches of 4 and 2 both sources get equal steps."""
    sources = sources_of([(64, 4), (8, 2)], world_size)
    num_steps = len(Interleaved(sources, 0))
    assert num_steps == (64 // 4 + 8 // 2) // world_size
    even = InProportion(sources, 0, temperature=3)
    assert even.num_steps == {"s0": num_steps // 2, "s1": num_steps - num_steps // 2}
    assert InProportion(sources, 0).num_steps == {"s0": 16 // world_size, "s1": 4 // world_size}
    hot = InProportion(sources, 0, temperature=1e9)
    if world_size == 1:
        assert hot.num_steps == {"s0": 7, "s1": 13}
        assert images_by_source(even, 3) == {0: 40, 1: 20}


@given(counts=COUNTS, world_size=st.integers(1, 4), temperature=st.floats(1, 10), epoch=st.integers(0, 5))
def test_proportional_batches_are_full_and_have_the_number_of_interleaved_ones(
    counts: list[tuple[int, int]], world_size: int, temperature: float, epoch: int
) -> None:
    sources = sources_of(counts, world_size)
    mix = InProportion(sources, 0, temperature)
    batches = mix.epoch(epoch)
    assert len(batches) == len(mix) == len(Interleaved(sources, 0))
    steps: Counter[str] = Counter()
    for batch in batches:
        (source,) = set((batch[..., 0] // 100).reshape(-1).tolist())
        assert batch.shape == (world_size, counts[source][1], 2)
        steps[f"s{source}"] += 1
    assert steps == mix.num_steps


@given(counts=COUNTS, temperature=st.floats(1, 10))
def test_every_image_is_drawn_before_one_is_repeated_in_any_epoch(
    counts: list[tuple[int, int]], temperature: float
) -> None:
    mix = InProportion(sources_of(counts), 0, temperature)
    drawn = [batch[0, :, 0] for epoch in range(6) for batch in mix.epoch(epoch)]
    for source, (count, _) in enumerate(counts):
        stream = [image for batch in drawn for image in batch.tolist() if image // 100 == source]
        for start in range(0, len(stream), count):
            of_round = stream[start : start + count]
            assert len(set(of_round)) == len(of_round)
        full = len(stream) // count * count
        assert set(Counter(stream[:full]).values()) <= {full // count}


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    size=st.integers(1, 7),
    world_size=st.integers(1, 4),
    epoch=st.integers(0, 5),
)
def test_concatenated_sources_are_shuffled_together(counts: list[int], size: int, world_size: int, epoch: int) -> None:
    mix = Concatenated(sources_of([(count, size) for count in counts], world_size), 0)
    batches = mix.epoch(epoch)
    assert len(batches) == len(mix)
    assert [batch.shape[1] for batch in batches[:-1]] == [size] * (len(batches) - 1)
    drawn = Counter(np.concatenate([batch[..., 0].reshape(-1) for batch in batches]).tolist())
    assert set(drawn) == set(chain.from_iterable(range(100 * k, 100 * k + count) for k, count in enumerate(counts)))
    assert sum(drawn.values()) == -(-sum(counts) // world_size) * world_size
    assert max(drawn.values()) - min(drawn.values()) <= 1


def test_concatenated_batches_mix_sources_and_repeat_rare_images() -> None:
    a = ImageSource(Shuffled(range(32), seed=0, source=0), 8)
    b = ImageSource(Repeated(range(100, 108), np.full(8, 4.0), seed=0, source=1), 8)
    mix = Concatenated({"a": a, "b": b}, 0)
    batches = mix.epoch(1)
    assert images_by_source(mix, 1) == {0: 32, 1: 32}
    assert all(len(set((batch[0, :, 0] // 100).tolist())) == 2 for batch in batches)
    assert max(batch[..., 1].max() for batch in batches) == 3
