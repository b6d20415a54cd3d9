"""The folder that the launcher of a node shares with the processes that it starts. Torch-free."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.base.errors import PyramidionError, RankError
from pipelines.base.ranks import NODE_FOLDER
from pipelines.run_folder.files import write_atomic

STOP = "stop"
"""Announces a stop between collectives; each process of the node may create it, and the launcher passes it on."""

Fault = dict[str, Any]
"""The arguments of a `RankError`."""


class NodeFolder:
    """Files by which a launcher and the processes of its node exchange what happens.

    `order`: written by the first process of the run: the other nodes start now, with this environment. `here`: all
    processes of this node are ready to meet those of others; `all-here`: those of all nodes are. `closed`: the first
    process continues alone. `stop`: see `STOP`. `fault`: the reason why the run must end. `error-<n>`: the error that
    ended the process n of this node.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_this_process(cls) -> "NodeFolder | None":
        """Return the folder of the launcher that has started this process; None without one."""
        path = os.environ.get(NODE_FOLDER)
        return None if path is None else cls(Path(path))

    def mark(self, name: str) -> None:
        """Create an empty file."""
        with suppress(FileNotFoundError):  # the launcher has ended
            (self.path / name).touch()

    def has(self, name: str) -> bool:
        """Return whether a file exists."""
        return (self.path / name).exists()

    def write_order(self, environment: Mapping[str, str]) -> None:
        """Let the other nodes start."""
        write_atomic(self.path / "order", json.dumps(dict(environment)))

    def order(self) -> dict[str, str] | None:
        """Return the environment for the other nodes; None before it is known."""
        path = self.path / "order"
        return json.loads(path.read_text()) if path.exists() else None

    def write_fault(self, fault: Fault) -> None:
        """Report the reason why the run must end; the first one is kept."""
        if not self.has("fault"):
            write_atomic(self.path / "fault", json.dumps(fault))

    def fault(self) -> RankError | None:
        """Return the reason why the run must end; None while it runs."""
        path = self.path / "fault"
        return RankError(**json.loads(path.read_text())) if path.exists() else None


def write_error(folder: Path, number: int, error: PyramidionError) -> None:
    """Leave the error that ends the process `number` of this node."""
    write_atomic(folder / f"error-{number}", json.dumps(fault_of(error)))


def read_error(folder: Path, number: int) -> RankError | None:
    """Return the error that has ended the process `number` of this node; None without one."""
    path = folder / f"error-{number}"
    return RankError(**json.loads(path.read_text())) if path.exists() else None


def fault_of(error: PyramidionError) -> Fault:
    """Return what other processes need to raise the same error."""
    return {"message": str(error), "exit_code": error.exit_code, "failure_kind": error.failure_kind}
