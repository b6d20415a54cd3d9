"""Assign units of images to splits so that every class has the same share in each. Torch-free."""

import heapq
import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.base.records import SPLITS, Split

_ALL = "all images"
_MAX_PASSES = 10
_MIN_GAIN = 1e-6


@dataclass(frozen=True)
class Unit:
    """Images that stay together.

    Attributes:
        size: the number of images.
        labels: the number of images with each class.
        split: the split that the unit has already, or None.
    """

    size: int
    labels: Mapping[Hashable, int]
    split: Split | None = None


def stratify(units: Sequence[Unit], shares: Mapping[Split, float], seed: int) -> list[Split]:
    """Return a split for each unit.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data",
    algorithm 1): the class with the fewest remaining units is distributed first, and each unit goes to the split that
    lacks most images of this class, then to the one that lacks most images. Deviations: a unit may hold several
    images, and large ones are assigned first; units that have a split already reduce what the splits lack; images
    without a class are distributed as if this were a class; then single units are moved while that lowers the
    squared lacks, because the algorithm leaves the number of images open; a split that remains empty takes one unit of
    train.

    Args:
        units: the units, in an order that does not depend on the machine.
        shares: the wanted share of all images, for val and test; a split that is missing gets no unit, and train gets
            the rest.
        seed: breaks ties; the same seed gives the same splits.
    """
    rng = random.Random(seed)
    order = sorted(rng.sample(range(len(units)), len(units)), key=lambda number: -units[number].size)
    lacking = _Lacking(units, shares)
    assigned = [unit.split for unit in units]
    members: dict[Hashable, list[int]] = {}
    for number in order:
        if assigned[number] is None:
            for label in units[number].labels or [None]:
                members.setdefault(label, []).append(number)
    remaining = Counter({label: len(numbers) for label, numbers in members.items()})
    rarest = [(count, repr(label), label) for label, count in remaining.items()]
    heapq.heapify(rarest)
    while rarest:
        count, _, label = heapq.heappop(rarest)
        if not count or count != remaining[label]:
            continue  # an entry from before other classes of the same units were assigned
        for number in members[label]:
            if assigned[number] is None:
                assigned[number] = split = lacking.most(label, rng)
                lacking.take(units[number], split)
                for taken in units[number].labels or [None]:
                    remaining[taken] -= 1
                    heapq.heappush(rarest, (remaining[taken], repr(taken), taken))
    splits = [split for split in assigned if split is not None]
    for _ in range(_MAX_PASSES):
        if not _improve(units, splits, order, lacking):
            break
    _fill_empty(units, splits, [split for split in SPLITS if shares.get(split)])
    return splits


class _Lacking:
    """The number of images that each split lacks, in total and by class."""

    def __init__(self, units: Sequence[Unit], shares: Mapping[Split, float]) -> None:
        self.splits: list[Split] = ["train", *(split for split in SPLITS if shares.get(split))]
        self._total: dict[Hashable, dict[Split, float]] = {}
        for unit in units:
            for label, count in self._counts(unit):
                lacking = self._total.setdefault(label, dict.fromkeys(self.splits, 0.0))
                for split in self.splits[1:]:
                    lacking[split] += shares[split] * count
                    lacking["train"] -= shares[split] * count
                if unit.split is None or unit.split in self.splits:
                    lacking["train"] += count
        self._size = {label: sum(lacking.values()) or 1.0 for label, lacking in self._total.items()}
        for unit in units:
            if unit.split is not None:
                self.take(unit, unit.split)

    def _counts(self, unit: Unit) -> list[tuple[Hashable, int]]:
        """Return the number of images by class; those of all images are under `_ALL`."""
        return [(_ALL, unit.size), *unit.labels.items()]

    def most(self, label: Hashable, rng: random.Random) -> Split:
        """Return the split that lacks most images of a class."""
        by_class, total = self._total.get(label, self._total[_ALL]), self._total[_ALL]
        return max(self.splits, key=lambda split: (round(by_class[split], 6), round(total[split], 6), rng.random()))

    def gain(self, unit: Unit, old: Split, new: Split) -> float:
        """Return by how much a move of a unit lowers the sum of lacks squared, over the images of each class."""
        gain = 0.0
        for label, count in self._counts(unit):
            lacking = self._total[label]
            # (old + count)^2 + (new - count)^2 - old^2 - new^2
            gain -= 2 * count * (lacking[old] - lacking[new] + count) / self._size[label]
        return gain

    def take(self, unit: Unit, split: Split, sign: int = 1) -> None:
        """Add a unit to a split, or remove it with `sign` -1."""
        if split in self.splits:
            for label, count in self._counts(unit):
                self._total[label][split] -= sign * count


def _improve(units: Sequence[Unit], splits: list[Split], order: Sequence[int], lacking: _Lacking) -> bool:
    """Move single units to the splits that lack them most; return whether any was moved."""
    is_moved = False
    for number in order:
        unit, old = units[number], splits[number]
        if unit.split is not None:
            continue
        new = max(lacking.splits, key=lambda split: 0.0 if split == old else lacking.gain(unit, old, split))
        if new != old and lacking.gain(unit, old, new) > _MIN_GAIN:
            lacking.take(unit, old, -1)
            lacking.take(unit, new)
            splits[number] = new
            is_moved = True
    return is_moved


def _fill_empty(units: Sequence[Unit], splits: list[Split], wanted: Sequence[Split]) -> None:
    """Move one small unit with frequent classes from train into each split that has none."""
    for split in wanted:
        in_train = [number for number, assigned in enumerate(splits) if assigned == "train"]
        movable = [number for number in in_train if units[number].split is None]
        if split in splits or len(in_train) < 2 or not movable:
            continue
        counts: Counter[Hashable] = Counter()
        for number in in_train:
            counts.update(units[number].labels.keys())
        rarity = {number: min((counts[label] for label in units[number].labels), default=0) for number in movable}
        splits[max(movable, key=lambda number: (-units[number].size, rarity[number], -number))] = split
