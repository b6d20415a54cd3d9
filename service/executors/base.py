"""What runs attempts. It knows processes and folders, and neither jobs nor the database."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True)
class Capacity:
    """What attempts may use in all: cores, and GPUs by their UUID."""

    cpus: int
    gpu_ids: tuple[str, ...]


@dataclass(frozen=True)
class AttemptSpec:
    """One attempt to be started.

    Attributes:
        folder: `<run folder>/attempts/<n>`, made by `start`; it names the attempt wherever an executor is asked.
        command: what is run, its output going to `log.txt` of the folder.
        environment: of the command, whole.
        cwd: its working directory.
        grace_s: what the command has to end by itself after SIGTERM, before its whole tree is killed.
    """

    folder: Path
    command: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    grace_s: float


@dataclass(frozen=True)
class Observation:
    """What is known of an attempt.

    `absent`: nobody runs it (yet). `alive`: its shim runs. `exited`: the command has ended with `exit_code` (negative:
    a signal), and no process of it is left. `lost`: the shim has died without a word; processes of it may be left
    until `sweep`.
    """

    kind: Literal["absent", "alive", "exited", "lost"]
    exit_code: int | None = None
    ran_out_of_memory: bool = False


class Executor(Protocol):
    """Starts attempts, looks after them, ends them. No method raises for an attempt that it does not know."""

    def capacity(self) -> Capacity:
        """Return what attempts may use in all, whatever is in use."""

    def start(self, spec: AttemptSpec) -> None:
        """Start an attempt; a second call for one folder does not make a second attempt."""

    def poll(self, folder: Path) -> Observation:
        """Return what is known of an attempt."""

    def stop(self, folder: Path, *, kill: bool = False) -> None:
        """Ask an attempt to end (SIGTERM, and SIGKILL to its whole tree after its grace), or kill its tree now."""

    def sweep(self, folder: Path) -> bool:
        """Kill what is left of an attempt whose shim has died; return whether nothing is left."""

    def sweep_strangers(self, known: Collection[Path], below: Path) -> None:
        """Kill attempts whose folder lies `below` and is not `known`."""
