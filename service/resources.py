"""Resources of attempts as named counts, such as `{"cpus": 4, "gpus": 1, "nodes": 1}`. Torch-free.

Cores and GPUs are used up: two jobs cannot have the same ones. Nodes are shared: their number limits every single job.
"""

from collections.abc import Iterable, Mapping

CPUS = "cpus"
GPUS = "gpus"
NODES = "nodes"

LARGEST_NODE = "largest_node_"
"""Start of the names in a capacity that say how much the largest node of a cluster has, such as `largest_node_cpus`."""

GPU_TYPE = "gpu_type_"
"""Start of the names in a capacity that say how many GPUs of a type a cluster has, such as `gpu_type_a100`."""

ResourceCounts = Mapping[str, int]
"""Counts by name, over all nodes; a name that is missing counts as 0, and one node."""


def total(parts: Iterable[ResourceCounts]) -> dict[str, int]:
    """Return the sum of the counts for each name."""
    sums: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def available(counts: ResourceCounts, name: str) -> int:
    """Return a count; that of nodes is at least 1."""
    return max(1, counts.get(NODES, 1)) if name == NODES else counts.get(name, 0)


def remaining(capacity: ResourceCounts, held: ResourceCounts) -> dict[str, int]:
    """Return the resources that are free; the number of nodes stays the same."""
    return {name: count if name == NODES else max(0, count - held.get(name, 0)) for name, count in capacity.items()}


def shortages(wanted: ResourceCounts, free: ResourceCounts) -> list[str]:
    """Return the names of the resources whose requested count exceeds the available count."""
    return [name for name, count in wanted.items() if count > available(free, name)]


def on_nodes(per_node: ResourceCounts, num_nodes: int) -> dict[str, int]:
    """Return the resources of a job whose counts `per_node` are those of each of its nodes."""
    counts = {name: count * num_nodes for name, count in per_node.items()}
    return counts if num_nodes == 1 else {**counts, NODES: num_nodes}


def on_largest_node(capacity: ResourceCounts) -> dict[str, int]:
    """Return the resources of the largest node if the capacity is that of a cluster and says so, otherwise all."""
    largest = {name: capacity[LARGEST_NODE + name] for name in (CPUS, GPUS) if LARGEST_NODE + name in capacity}
    return largest or dict(capacity)


def gpu_types(capacity: ResourceCounts) -> dict[str, int]:
    """Return the number of GPUs of each type that is known."""
    found = {name.removeprefix(GPU_TYPE): count for name, count in capacity.items() if name.startswith(GPU_TYPE)}
    return dict(sorted(found.items()))
