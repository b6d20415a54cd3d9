"""Facts about the processes (ranks) of one run. Torch-free: a process group can exist only if torch was imported."""

import os
import sys

LOCAL_RANK = "LOCAL_RANK"
"""The environment variable that holds the number of a process among those of its host."""

NODE_FOLDER = "PYRAMIDION_NODE_FOLDER"
"""The environment variable by which the launcher of a node passes the folder that it shares with its processes."""

NODE_RANK = "PYRAMIDION_NODE_RANK"
"""The environment variable that holds the number of a node, from 0."""

NUM_NODES = "PYRAMIDION_NUM_NODES"
"""The environment variable that holds the number of nodes of a run."""

_DISTRIBUTED = "torch.distributed"


def is_distributed() -> bool:
    """Return whether this process has joined a process group."""
    distributed = sys.modules.get(_DISTRIBUTED)
    return distributed is not None and bool(distributed.is_available() and distributed.is_initialized())


def world_size() -> int:
    """Return the number of processes in the process group; 1 without a group."""
    return int(sys.modules[_DISTRIBUTED].get_world_size()) if is_distributed() else 1


def rank() -> int:
    """Return the rank of this process in the process group; 0 without a group."""
    return int(sys.modules[_DISTRIBUTED].get_rank()) if is_distributed() else 0


def any_rank(flag: bool) -> bool:
    """Return, on all ranks of the process group, whether `flag` is true on any of them; all ranks must call this."""
    flags: list[bool | None] = [None] * world_size()
    sys.modules[_DISTRIBUTED].all_gather_object(flags, flag)
    return any(flags)


def local_rank() -> int:
    """Return the number of this process on its host, from the environment: known before a process group exists."""
    return int(os.environ.get(LOCAL_RANK, "0"))


def num_nodes() -> int:
    """Return the number of nodes of this run; 1 unless the launcher of a node has started this process."""
    return int(os.environ[NUM_NODES]) if NODE_FOLDER in os.environ else 1


def node_rank() -> int:
    """Return the number of this node; 0 unless the launcher of a node has started this process."""
    return int(os.environ[NODE_RANK]) if NODE_FOLDER in os.environ else 0


def is_rank_zero() -> bool:
    """Return whether this is the first process of its run, from the environment, as for `local_rank`."""
    return int(os.environ.get("RANK", local_rank() or node_rank())) == 0


def print_rank_zero(text: str) -> None:
    """Print a line to stderr, on rank 0 only."""
    if is_rank_zero():
        print(text, file=sys.stderr, flush=True)
