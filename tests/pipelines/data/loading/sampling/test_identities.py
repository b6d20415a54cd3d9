"""Sources that draw identities."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.loading.sampling.identities import PKSource

SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=14)


def source_of(sizes: list[int], p: int, k: int, world_size: int = 1, seed: int = 0) -> PKSource:
    """Return a source in which identity j has the images 100 * j, 100 * j + 1, ..."""
    images = {f"{j:02d}": range(100 * j, 100 * j + size) for j, size in enumerate(sizes)}
    return PKSource(images, p, k, seed=seed, source=0, world_size=world_size)


@given(sizes=SIZES, k=st.integers(1, 5), world_size=st.integers(1, 4), data=st.data())
def test_each_batch_of_each_rank_has_p_identities_with_k_images(
    sizes: list[int], k: int, world_size: int, data: st.DataObject
) -> None:
    p = data.draw(st.integers(2, len(sizes)))
    source = source_of(sizes, p, k, world_size)
    batches = source.once(data.draw(st.integers(0, 9)))
    assert len(batches) == source.num_steps == max(1, -(-sum(sizes) // (p * k * world_size)))
    for joint in batches:
        assert joint.shape == (world_size, p * k, 2)
        for images in joint[..., 0]:
            by_identity = Counter((images // 100).tolist())
            assert len(by_identity) == p
            assert set(by_identity.values()) == {k}
            for identity in by_identity:
                times = Counter(images[images // 100 == identity].tolist())
                assert len(times) == min(k, sizes[identity])
                assert max(times.values()) == -(-k // sizes[identity])
        if len(sizes) >= p * world_size:
            assert len(set((joint[..., 0] // 100).reshape(-1).tolist())) == p * world_size


@given(num_identities=st.integers(2, 14), world_size=st.integers(1, 3), num_steps=st.integers(1, 5), data=st.data())
def test_all_identities_are_drawn_in_rounds_that_continue_across_epochs(
    num_identities: int, world_size: int, num_steps: int, data: st.DataObject
) -> None:
    p = data.draw(st.integers(2, num_identities))
    source = source_of([3] * num_identities, p, 2, world_size)
    steps = [batch[..., 0] // 100 for epoch in range(8) for batch in source.stream(epoch, num_steps)]
    steps_per_round = -(-num_identities // (p * world_size))
    filled_up = steps_per_round * p * world_size - num_identities
    for start in range(0, len(steps) - steps_per_round + 1, steps_per_round):
        times = Counter(np.concatenate(steps[start : start + steps_per_round])[:, ::2].reshape(-1).tolist())
        assert set(times) == set(range(num_identities))
        assert sum(count - 1 for count in times.values()) == filled_up
        assert max(times.values()) - min(times.values()) <= 1


def test_each_round_draws_the_identities_in_a_new_order() -> None:
    source = source_of([1] * 12, 3, 1)
    rounds = [np.concatenate([batch[0, :, 0] for batch in source.stream(epoch, 4)]).tolist() for epoch in range(5)]
    assert all(sorted(of_round) == list(range(0, 1200, 100)) for of_round in rounds)
    assert len({tuple(of_round) for of_round in rounds}) == 5


def test_images_of_an_identity_take_turns_that_continue_across_epochs() -> None:
    source = source_of([8, 12], 2, 2)
    steps = [batch[0, :, 0] for epoch in range(12) for batch in source.stream(epoch, 2)]
    drawn = np.concatenate(steps)
    for identity, count in enumerate((8, 12)):
        rounds = drawn[drawn // 100 == identity].reshape(-1, count) % 100
        assert np.sort(rounds).tolist() == [list(range(count))] * len(rounds)
        assert len({tuple(images) for images in rounds.tolist()}) == len(rounds)


@pytest.mark.parametrize(("num_identities", "p", "world_size"), [(5, 2, 2), (7, 3, 1), (3, 2, 4), (4, 2, 2)])
def test_all_images_are_drawn_even_if_rounds_of_identities_are_filled_up(
    num_identities: int, p: int, world_size: int
) -> None:
    """In 3 rounds of identities, with 2 images per draw, all 6 images of each identity are drawn."""
    source = source_of([6] * num_identities, p, 2, world_size)
    steps_of_three_rounds = 3 * -(-num_identities // (p * world_size))
    for epoch in range(4):
        drawn = np.concatenate([batch[..., 0].reshape(-1) for batch in source.stream(epoch, steps_of_three_rounds)])
        assert len(set(drawn.tolist())) == 6 * num_identities


def test_image_of_several_identities_counts_once_and_can_be_drawn_for_each() -> None:
    source = PKSource({"ann": [1, 2], "ben": [2]}, 2, 2, seed=0, source=0)
    assert source.num_images == 2
    assert source.num_steps == 1
    (batch,) = source.once(0)
    assert sorted(batch[0].tolist()) == [[1, 0], [2, 0], [2, 1], [2, 2]]


def test_draws_depend_on_seed_and_epoch_but_not_on_the_order_of_identities() -> None:
    def drawn(seed: int, epoch: int) -> list[object]:
        return [batch.tolist() for batch in source_of([5] * 9, 3, 2, seed=seed).once(epoch)]

    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1) != drawn(0, 2)
    assert drawn(0, 1) != drawn(1, 1)
    images = {"b": [3, 4, 5], "a": [0, 1, 2]}
    one = PKSource(images, 2, 2, seed=0, source=0).once(0)
    other = PKSource(dict(sorted(images.items())), 2, 2, seed=0, source=0).once(0)
    assert [batch.tolist() for batch in one] == [batch.tolist() for batch in other]


def test_fewer_identities_than_p_are_rejected() -> None:
    with pytest.raises(ValueError, match="got 2 identities; a batch needs p = 3"):
        source_of([4, 4], 3, 2)
