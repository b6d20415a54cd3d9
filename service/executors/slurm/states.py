"""Parsers for the output of Slurm's commands about jobs and nodes, and the meaning of the states of jobs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from service.resources import CPUS, GPU_TYPE, GPUS, LARGEST_NODE, NODES, ResourceCounts, total

Phase = Literal["waiting", "running", "ending", "ended"]

SQUEUE_FORMAT = "%i|%T|%r|%j"
"""The name comes last: it is the only value that may contain any character."""
SINFO_FORMAT = "%N|%c|%G"

WAITING = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
)
ENDED = frozenset(
    {
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
        "REVOKED", "TIMEOUT",
    }
)  # fmt: skip

_NUMBER = re.compile(r"\d+")
_GPUS = re.compile(r"gpu:(?:([^:,()]+):)?(\d+)")


@dataclass(frozen=True)
class SlurmJob:
    """A job as Slurm lists it.

    Attributes:
        reason: why it waits, in Slurm's words.
    """

    id: str
    state: str
    reason: str
    name: str

    @property
    def phase(self) -> Phase:
        """The meaning of the state. One that is unknown here counts as running, so that nothing is decided."""
        if self.state in WAITING:
            return "waiting"
        if self.state in ENDED:
            return "ended"
        return "ending" if self.state == "COMPLETING" else "running"


_ORDER: tuple[Phase, ...] = ("ended", "waiting", "ending", "running")


def most_advanced(jobs: Iterable[SlurmJob]) -> SlurmJob | None:
    """Return the job of an attempt that says most about it: of several, one has claimed it, and the others exit."""
    return max(jobs, key=lambda job: (_ORDER.index(job.phase), int(job.id)), default=None)


def parse_squeue(text: str) -> list[SlurmJob]:
    """Return the jobs of `squeue --format SQUEUE_FORMAT`; lines that are parts of names of other jobs are skipped."""
    found = []
    for line in text.split("\n"):
        parts = line.split("|", 3)
        if len(parts) == 4 and _NUMBER.fullmatch(parts[0]) and parts[1].isupper():
            found.append(SlurmJob(*parts))
    return found


def parse_sacct(text: str) -> str | None:
    """Return the state of the last job of `sacct --parsable2 --format State`, such as CANCELLED of `CANCELLED by 0`."""
    words = [line.split()[0] for line in text.splitlines() if line.strip()]
    return words[-1] if words else None


def parse_sinfo(text: str) -> ResourceCounts:
    """Return the capacity of the nodes of `sinfo --Node --format SINFO_FORMAT`; one may be in several partitions."""
    nodes: dict[str, tuple[int, int]] = {}
    types: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        name, _, rest = line.partition("|")
        cpus, _, generic = rest.partition("|")
        if cpus.isdecimal():
            gpus = [(kind, int(count)) for kind, count in _GPUS.findall(generic)]
            nodes[name] = (int(cpus), sum(count for _, count in gpus))
            types[name] = total({GPU_TYPE + kind: count} for kind, count in gpus if kind)
    columns = {CPUS: [cpus for cpus, _ in nodes.values()], GPUS: [gpus for _, gpus in nodes.values()]}
    sums = {name: sum(column) for name, column in columns.items()}
    largest = {LARGEST_NODE + name: max(column, default=0) for name, column in columns.items()}
    return {**sums, NODES: len(nodes), **largest, **total(types.values())}
