from collections import Counter
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.sample import SampleKey
from pipelines.data.samplers import EvalBatchSampler, TrainBatchSampler

SOURCES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 7)), min_size=1, max_size=3)


def train_samplers(sources: list[tuple[int, int]], seed: int = 0, world_size: int = 1) -> list[TrainBatchSampler]:
    """One sampler a rank; source k has sources[k][0] images at k * 100, k * 100 + 1, ..."""
    indices = {f"s{k}": range(k * 100, k * 100 + count) for k, (count, _) in enumerate(sources)}
    sizes = {f"s{k}": size for k, (_, size) in enumerate(sources)}
    return [TrainBatchSampler(indices, sizes, seed=seed, rank=r, world_size=world_size) for r in range(world_size)]


@given(sources=SOURCES, seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000))
def test_an_epoch_has_each_image_once_in_batches_of_one_source(
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
def test_start_at_gives_the_tail_once(sources: list[tuple[int, int]], epoch: int, data: st.DataObject) -> None:
    (sampler,) = train_samplers(sources)
    sampler.set_epoch(epoch)
    whole = list(sampler)
    start = data.draw(st.integers(0, len(whole)))
    sampler.start_at(start)
    sampler.set_epoch(epoch)
    assert len(sampler) == len(whole)
    assert list(sampler) == whole[start:]
    assert list(sampler) == whole


def test_another_epoch_begins_at_its_beginning() -> None:
    (sampler,) = train_samplers([(20, 3)])
    sampler.start_at(4)
    sampler.set_epoch(1)
    assert len(list(sampler)) == 7


def test_order_depends_on_seed_and_epoch_and_not_on_the_order_of_sources() -> None:
    def order(seed: int, epoch: int) -> list[list[SampleKey]]:
        (sampler,) = train_samplers([(30, 4), (10, 2)], seed)
        return [[SampleKey(0, key.index) for key in batch] for batch in sampler.batches(epoch)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    a, b = range(5), range(100, 107)
    forward = TrainBatchSampler({"a": a, "b": b}, {"a": 2, "b": 3}, seed=3)
    backward = TrainBatchSampler({"b": b, "a": a}, {"b": 3, "a": 2}, seed=3)
    assert list(forward) == list(backward)


@given(counts=st.tuples(st.integers(1, 60), st.integers(1, 60)), epoch=st.integers(0, 5))
def test_batches_of_a_source_are_spread_evenly(counts: tuple[int, int], epoch: int) -> None:
    (sampler,) = train_samplers([(counts[0], 1), (counts[1], 1)])
    turns = [batch[0].index // 100 for batch in sampler.batches(epoch)]
    for end in range(len(turns) + 1):
        for source, count in enumerate(counts):
            assert abs(turns[:end].count(source) - end * count / len(turns)) <= 1 + 1e-9


@given(
    groups=st.lists(st.sampled_from(["a", "b", "c"]), max_size=40),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    world_size=st.integers(1, 3),
)
def test_evaluation_sees_every_image_once_in_batches_of_one_group(
    groups: list[str], sizes: tuple[int, int, int], world_size: int
) -> None:
    batch_sizes = dict(zip("abc", sizes, strict=True))
    samplers = [EvalBatchSampler(groups, batch_sizes, rank=rank, world_size=world_size) for rank in range(world_size)]
    by_rank = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(batches) for batches in by_rank]
    # Lightning leaves out the pass on a rank without batches, while the others wait for it.
    assert all(by_rank) or not groups
    seen = [key.index for batches in by_rank for batch in batches for key in batch]
    assert sorted(seen) == list(range(len(groups)))
    shares = [sum(map(len, batches)) for batches in by_rank]
    assert max(shares) - min(shares) <= 1
    for batch in filter(None, chain.from_iterable(by_rank)):
        (group,) = {groups[key.index] for key in batch}
        assert len(batch) <= batch_sizes[group]
    assert by_rank == [list(sampler) for sampler in samplers]
