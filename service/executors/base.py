"""The contract of executors, which run attempts. They know processes and folders, but neither jobs nor the database.

An executor is registered under a name, see `service.executors.registry`.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from service.resources import NODES, ResourceCounts
from service.settings import Settings


class RequirementsNotMet(Exception):
    """This machine does not meet a requirement of an executor; the message names it, with a remedy."""


class ExecutorUnavailable(Exception):
    """The system that runs the attempts does not answer, so nothing is known about them; the message names it.

    Every method of an executor may raise it, except `check_requirements` and `from_settings`. The supervisor tries
    again later. It never takes it for the end of an attempt.
    """


@dataclass(frozen=True)
class AttemptSpec:
    """One attempt to start.

    Attributes:
        folder: `<run folder>/attempts/<n>`, created by `start`; it names the attempt in all calls of an executor.
        command: the command line; its output goes to `log.txt` of the folder.
        environment: the complete environment of the command. An executor adds what is specific to it, such as the
            variable that makes devices visible.
        cwd: the working directory of the command.
        grace_s: the grace period: time for the command to exit after SIGTERM before its whole process tree is killed.
        resources: the resources that it may use, over all of its nodes.
        num_nodes: the number of nodes on which it runs; on each of them, the executor starts the command below
            `pipelines.node_launcher`. 1 needs no launcher.
        devices: the devices that `assign` has given to it.
        gpu_type: type of its GPUs, as `capacity` names it after `GPU_TYPE`; None for any.
        fetching_driver: the module, and its arguments after the attempt's folder, that an executor with
            `fetches_orders` runs on the node, because it does not share the folder; empty if it does.
        start_until: time of the monotonic clock of this host after which the command must not be started any more, as
            another supervisor may have started it; None without a limit.
    """

    folder: Path
    command: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    grace_s: float
    resources: ResourceCounts
    devices: tuple[str, ...] = ()
    start_until: float | None = None
    num_nodes: int = 1
    gpu_type: str | None = None
    fetching_driver: tuple[str, ...] = ()

    @property
    def resources_per_node(self) -> ResourceCounts:
        """The resources that it may use on each of its nodes."""
        return {name: count // self.num_nodes for name, count in self.resources.items() if name != NODES}


@dataclass(frozen=True)
class Observation:
    """The state of an attempt as an executor sees it.

    `absent`: it is not running (yet). `pending`: the system that runs attempts has accepted it and waits for resources.
    `alive`: it is running. `exited`: the command has exited with `exit_code` (negative if a signal terminated it), and
    all of its processes have exited. `lost`: it died without an exit code; some of its processes may be running until
    `sweep`.

    Attributes:
        was_preempted: whether the system has ended it to run something else, so that it spends no retry.
        reason: for `lost`, a sentence about the end from the system that ran it.
    """

    kind: Literal["absent", "pending", "alive", "exited", "lost"]
    exit_code: int | None = None
    ran_out_of_memory: bool = False
    was_preempted: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Engine:
    """A system that runs attempts, which `pyramidion serve` starts and stops together with the service.

    Attributes:
        name: for messages.
        command: the command line of its process, which ends with its whole system on SIGTERM.
        settings: settings by which the processes of the service reach it.
        environment: further variables of these processes and of its own.
    """

    name: str
    command: tuple[str, ...]
    settings: Mapping[str, Any]
    environment: Mapping[str, str]


class Executor(Protocol):
    """Starts, observes and stops attempts. No method raises for an attempt that it does not know.

    Several processes create an executor from the same settings (the API to read its capacity, and each supervisor), so
    everything that must outlive a process is stored in the folders of the attempts or in the system that runs them.

    Attributes:
        engine: optional, a class method of the settings that returns the `Engine` of a whole service, or None. It may
            raise RequirementsNotMet.
        is_bound_to_host: whether an attempt can be observed only on the host that started it. Then a supervisor on
            another host does not take over while such attempts are active. True if the attribute is missing.
        fetches_orders: optional, whether attempts whose nodes share no disk with the service run below
            `AttemptSpec.fetching_driver`.
    """

    is_bound_to_host: bool

    @classmethod
    def check_requirements(cls, settings: Settings) -> None:
        """Raise RequirementsNotMet if a requirement is not met. This must be fast: the service starts only after it."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the executor of a service."""

    def capacity(self) -> ResourceCounts:
        """Return the resources that attempts may use in total, in use or not; `cpus` is at least 1.

        `nodes` is the largest number of nodes of one attempt; if it is missing, attempts run on one node. Names that
        start with `GPU_TYPE` are the types of GPUs that a job may choose.
        """

    def assign(self, resources: ResourceCounts, in_use: Collection[str]) -> tuple[str, ...]:
        """Return the devices for an attempt whose resources fit; empty if another system chooses them.

        They are stored before the attempt starts, and passed to `start` in the specification.

        Args:
            in_use: the devices of all active attempts.
        """

    def start(self, spec: AttemptSpec) -> None:
        """Start an attempt; a second call for the same folder does not start a second one. Raises OSError."""

    def poll(self, folder: Path) -> Observation:
        """Return the state of an attempt."""

    def stop(self, folder: Path, *, kill: bool = False) -> None:
        """Ask an attempt to exit (SIGTERM; SIGKILL to its tree after the grace period), or kill its tree at once."""

    def sweep(self, folder: Path) -> bool:
        """Kill all processes of an attempt; return True once all of them have exited."""

    def sweep_orphans(self, known: Iterable[Path], below: Path) -> None:
        """Kill the attempts whose folders are inside `below` but not in `known`.

        Args:
            known: read it after the running attempts were listed: it is produced at this moment, and raises an error if
                another supervisor may have started one of them.
        """
