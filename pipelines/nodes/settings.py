"""The settings of the launcher of one node, from the environment: of Pyramidion, or of a step of Slurm. Torch-free."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.ranks import NODE_RANK, NUM_NODES

ADDRESS_VARIABLE = "PYRAMIDION_NODES_ADDRESS"
"""The environment variable with the address of the first node, `host:port`, on which its launcher listens."""

INTERFACE_VARIABLE = "PYRAMIDION_NODES_INTERFACE"
"""The environment variable with the network interface of this node through which its processes talk to others."""

SLURM_RANK, SLURM_NUM_NODES, SLURM_JOB = "SLURM_NODEID", "SLURM_NNODES", "SLURM_JOB_ID"
SLURM_NODES = ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")
SLURM_PORTS = range(30_000, 32_000)
"""Ports of runs in Slurm, below those that the kernel gives to outgoing connections."""


@dataclass(frozen=True)
class NodeSettings:
    """The number of this node, the number of all nodes, and the address of the first one.

    Attributes:
        rank: number of this node; 0 is the first, which decides everything.
        num_nodes: number of nodes.
        host, port: the address of the first node.
        interface: name of the network interface of this node; None for the one that has the node's address.
    """

    rank: int
    num_nodes: int
    host: str = ""
    port: int = 0
    interface: str | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """Return the settings of an environment; raises ConfigError if a variable is missing or invalid."""
        num_nodes = _number(environ, NUM_NODES, SLURM_NUM_NODES)
        if num_nodes < 1:
            raise ConfigError(FieldProblem(NUM_NODES, f"got {num_nodes}; write the number of nodes, at least 1"))
        if num_nodes == 1:
            return cls(0, 1)
        rank = _number(environ, NODE_RANK, SLURM_RANK)
        if not 0 <= rank < num_nodes:
            raise ConfigError(FieldProblem(NODE_RANK, f"got {rank}; the nodes are 0 to {num_nodes - 1}"))
        host, port = _address(environ.get(ADDRESS_VARIABLE) or _slurm_address(environ))
        return cls(rank, num_nodes, host, port, environ.get(INTERFACE_VARIABLE) or None)


def _number(environ: Mapping[str, str], name: str, name_of_slurm: str) -> int:
    text = environ.get(name) or environ.get(name_of_slurm)
    if text is None:
        raise ConfigError(FieldProblem(name, f"is not set; set it on each node, or start a step of Slurm on {name}"))
    try:
        return int(text)
    except ValueError as error:
        raise ConfigError(FieldProblem(name, f"got {text!r}; write a whole number")) from error


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        problem = f"got {text!r}; write the address of the first node and a free port, such as 10.0.0.1:29400"
        raise ConfigError(FieldProblem(ADDRESS_VARIABLE, problem))
    return host.strip("[]"), int(port)


def _slurm_address(environ: Mapping[str, str]) -> str:
    """Return the address of the first node of a step of Slurm, with a port that depends on the job."""
    nodes = next((environ[name] for name in SLURM_NODES if environ.get(name)), None)
    if nodes is None:
        problem = "is not set; set it to the address of the first node and a free port, such as 10.0.0.1:29400"
        raise ConfigError(FieldProblem(ADDRESS_VARIABLE, problem))
    return f"{first_host(nodes)}:{port_of_slurm_job(environ.get(SLURM_JOB, '0'))}"


def port_of_slurm_job(job: str) -> int:
    """Return the port of the first node for a run in a job of Slurm: two jobs on one node hardly have the same."""
    return SLURM_PORTS[int(job) % len(SLURM_PORTS)] if job.isdigit() else SLURM_PORTS[0]


def first_host(nodes: str) -> str:
    """Return the first host of a list in Slurm's notation: `n07` of `n[07-09,12],m1`."""
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^\[,]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes
