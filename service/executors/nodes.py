"""The command and the environment by which an executor starts an attempt on several nodes; see docs/nodes.md."""

from collections.abc import Sequence

from pipelines.base.ranks import NODE_RANK, NUM_NODES
from pipelines.nodes.settings import ADDRESS_VARIABLE
from service.child_process import python_command


def node_command(command: Sequence[str]) -> tuple[str, ...]:
    """Return the command line that runs an attempt's command on one node, together with the other nodes."""
    return python_command("pipelines.node_launcher", "--", *command)


def node_environment(rank: int, num_nodes: int, address: str) -> dict[str, str]:
    """Return the variables of one node, to be added to the environment of the attempt.

    A step of Slurm needs none of them.

    Args:
        rank: number of the node, from 0.
        num_nodes: number of nodes.
        address: `host:port` of the first node, with a port that is free there.
    """
    return {NODE_RANK: str(rank), NUM_NODES: str(num_nodes), ADDRESS_VARIABLE: address}
