"""Sources that draw images, and repeat factors."""

from collections import Counter
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.loading.sampling.images import ImageSource, Order, Repeated, Shuffled, repeat_factors

FACTORS = st.lists(st.floats(1, 6), min_size=1, max_size=30)


def test_repeat_factors_equal_those_of_the_paper() -> None:
    """Gupta et al. 2019, section 5.2, over the four labeled images: f_a = 4/4, f_b = 2/4, f_c = 1/4."""
    classes = [{"a"}, {"a", "b"}, {"a", "b", "c"}, None, {"a"}]
    expected = [1, sqrt(0.8 / 0.5), sqrt(0.8 / 0.25), 1, 1]
    assert repeat_factors(classes, 0.8).tolist() == pytest.approx(expected)
    assert repeat_factors(classes, 0.25).tolist() == [1, 1, 1, 1, 1]


def test_images_without_a_class_are_repeated_once_and_count_as_labeled() -> None:
    assert repeat_factors([set(), {"a"}, set(), set()], 1.0).tolist() == [1, 2, 1, 1]
    assert repeat_factors([None, set()], 1.0).tolist() == [1, 1]


@given(factors=FACTORS, seed=st.integers(0, 2**32 - 1), number=st.integers(0, 100))
def test_round_repeats_each_image_by_its_factor_rounded_down_or_up(
    factors: list[float], seed: int, number: int
) -> None:
    order = Repeated(range(10, 10 + len(factors)), np.array(factors), seed=seed, source=0)
    drawn = order.round(number)
    assert len(drawn) == len(order) == int(np.ceil(round(sum(factors), 6)))
    counts = Counter(drawn.tolist())
    too_many = sum(max(0, counts[10 + j] - int(np.ceil(round(r, 9)))) for j, r in enumerate(factors))
    assert too_many <= 1
    assert all(counts[10 + j] >= int(r) for j, r in enumerate(factors))


def test_repeat_factors_hold_on_average_and_images_are_rounded_independently() -> None:
    factors = np.array([1.0, 1.25, 1.5, 1.75, 2.5, 1.0])
    order = Repeated(range(6), factors, seed=1, source=0)
    rounds = np.stack([np.bincount(order.round(number), minlength=6) for number in range(4000)])
    assert len(order) == factors.sum() == 9
    assert rounds.mean(axis=0) == pytest.approx(factors, abs=0.03)
    assert rounds.std(axis=0)[[0, 5]].tolist() == [0, 0]
    assert len({tuple(counts) for counts in rounds.tolist()}) > 5


def test_fraction_of_the_sum_is_filled_up_by_one_image() -> None:
    order = Repeated(range(3), np.array([1.0, 1.0, 1.2]), seed=1, source=0)
    rounds = np.stack([np.bincount(order.round(number), minlength=3) for number in range(3000)])
    assert rounds.sum(axis=1).tolist() == [4] * 3000
    # The third image is rounded up in 0.2 of the rounds; in the others one of the three is drawn once more.
    assert rounds.mean(axis=0) == pytest.approx([1 + 0.8 / 3, 1 + 0.8 / 3, 1.2 + 0.8 / 3], abs=0.04)


@pytest.mark.parametrize("repeated", [False, True])
@given(count=st.integers(1, 23), size=st.integers(1, 5), world_size=st.integers(1, 4), num_steps=st.integers(1, 7))
def test_stream_continues_whole_rounds_across_epochs(
    repeated: bool, count: int, size: int, world_size: int, num_steps: int
) -> None:
    factors = 1 + np.arange(count) / count
    order: Order = Shuffled(range(count), seed=2, source=0)
    if repeated:
        order = Repeated(range(count), factors, seed=2, source=0)
    source = ImageSource(order, size, world_size)
    batches = [batch for epoch in range(5) for batch in source.stream(epoch, num_steps)]
    assert [batch.shape for batch in batches] == [(world_size, size, 2)] * (5 * num_steps)
    drawn = np.concatenate([batch[..., 0].T.reshape(-1) for batch in batches])
    for number in range(len(drawn) // len(order)):
        assert drawn[number * len(order) :][: len(order)].tolist() == order.round(number).tolist()


@given(count=st.integers(1, 30), size=st.integers(1, 5), world_size=st.integers(1, 4), epoch=st.integers(0, 9))
def test_round_is_split_over_the_ranks(count: int, size: int, world_size: int, epoch: int) -> None:
    factors = 1 + np.arange(count) % 3 / 2
    order = Repeated(range(count), factors, seed=3, source=1)
    source = ImageSource(order, size, world_size)
    batches = source.once(epoch)
    assert len(batches) == source.num_steps
    assert [batch.shape[1] for batch in batches[:-1]] == [size] * (len(batches) - 1)
    drawn = Counter(np.concatenate([batch[..., 0].reshape(-1) for batch in batches]).tolist())
    of_round = Counter(order.round(epoch).tolist())
    padding = drawn - of_round
    assert not of_round - drawn
    assert sum(padding.values()) == -len(order) % world_size


@given(count=st.integers(1, 30), size=st.integers(2, 5), world_size=st.integers(1, 4), epoch=st.integers(0, 9))
def test_last_batch_below_the_minimum_joins_the_one_before(count: int, size: int, world_size: int, epoch: int) -> None:
    order = Shuffled(range(count), seed=3, source=1)
    source, joined = ImageSource(order, size, world_size), ImageSource(order, size, world_size, min_batch=2)
    batches, expected = joined.once(epoch), source.once(epoch)
    if len(expected) > 1 and expected[-1].shape[1] == 1:
        expected = [*expected[:-2], np.concatenate(expected[-2:], axis=1)]
    assert len(batches) == joined.num_steps
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in expected]
