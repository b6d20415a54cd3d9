"""The batch sampler of evaluation."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import groupby

from torch.utils.data import Sampler

from pipelines.data.loading.sample import SampleKey


class EvalBatchSampler(Sampler[list[SampleKey]]):
    """Draws every image once over all ranks; a batch has images of one group (such as a padded size) only.

    No image is repeated: ranks differ by at most one image, and may differ in their number of batches. A rank without
    images has one empty batch, because Lightning skips the whole pass on a rank without batches while the other ranks
    wait for it.

    Args:
        groups: the group of each image of the split.
        batch_sizes: the batch size of each group.
    """

    def __init__(
        self, groups: Sequence[Hashable], batch_sizes: Mapping[Hashable, int], *, rank: int = 0, world_size: int = 1
    ) -> None:
        first_seen = {group: position for position, group in reversed(list(enumerate(groups)))}
        order = sorted(range(len(groups)), key=lambda index: (first_seen[groups[index]], index))
        self._batches: list[list[SampleKey]] = []
        for group, members in groupby(order[rank::world_size], key=lambda index: groups[index]):
            keys = [SampleKey(0, index) for index in members]
            size = batch_sizes[group]
            self._batches += [keys[begin : begin + size] for begin in range(0, len(keys), size)]
        if order and not self._batches:
            self._batches = [[]]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return iter(self._batches)
