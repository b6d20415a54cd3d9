"""Resources of attempts as named counts, such as `{"cpus": 4, "gpus": 1}`. Torch-free."""

from collections.abc import Iterable, Mapping

CPUS = "cpus"
GPUS = "gpus"

ResourceCounts = Mapping[str, int]
"""Counts by name; a name that is missing counts as 0."""


def total(parts: Iterable[ResourceCounts]) -> dict[str, int]:
    """Return the sum of the counts for each name."""
    sums: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def shortages(wanted: ResourceCounts, available: ResourceCounts) -> list[str]:
    """Return the names of the resources whose requested count exceeds the available count."""
    return [name for name, count in wanted.items() if count > available.get(name, 0)]
