"""Resources of attempts as named counts, such as `{"cpus": 4, "gpus": 1}`. Torch-free."""

from collections.abc import Iterable, Mapping

CPUS = "cpus"
GPUS = "gpus"

LARGEST_NODE = "largest_node_"
"""Start of the names in a capacity that say how much the largest node of a cluster has, such as `largest_node_cpus`."""

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


def on_largest_node(capacity: ResourceCounts) -> dict[str, int]:
    """Return the resources of the largest node, which are all of them unless the capacity is that of a cluster."""
    return {name: capacity.get(LARGEST_NODE + name, capacity.get(name, 0)) for name in (CPUS, GPUS)}
