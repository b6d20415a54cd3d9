"""The batch sampler of evaluation."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from pipelines.data.loading.sampling.evaluation import EvalBatchSampler


@given(
    groups=st.lists(st.sampled_from(["a", "b", "c"]), max_size=40),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    world_size=st.integers(1, 3),
)
def test_evaluation_draws_every_image_once_in_batches_of_one_group(
    groups: list[str], sizes: tuple[int, int, int], world_size: int
) -> None:
    batch_sizes = dict(zip("abc", sizes, strict=True))
    samplers = [EvalBatchSampler(groups, batch_sizes, rank=rank, world_size=world_size) for rank in range(world_size)]
    by_rank = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(batches) for batches in by_rank]
    # Lightning skips the pass on a rank without batches, while the others wait for it.
    assert all(by_rank) or not groups
    seen = [key.index for batches in by_rank for batch in batches for key in batch]
    assert sorted(seen) == list(range(len(groups)))
    shares = [sum(map(len, batches)) for batches in by_rank]
    assert max(shares) - min(shares) <= 1
    for batch in filter(None, chain.from_iterable(by_rank)):
        (group,) = {groups[key.index] for key in batch}
        assert len(batch) <= batch_sizes[group]
    assert by_rank == [list(sampler) for sampler in samplers]
