"""The order of an attempt: what the driver on a node of the cluster needs to start it.

It contains the environment of the attempt, which may include credentials, so it is a file in the attempt's folder that
only its owner may read, and neither Ray's table of jobs nor a command line has it. The file is also the permission to
start: whoever renames or removes it first, the driver or the executor, decides whether the attempt runs.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pipelines.run_folder.layout import AttemptDir
from service.executors.base import AttemptSpec

MODE = 0o600


@dataclass(frozen=True)
class Order:
    """An attempt to start, see `AttemptSpec`; paths as text."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: str
    grace_s: float
    resources: Mapping[str, int]

    @classmethod
    def of(cls, spec: AttemptSpec) -> Self:
        return cls(spec.command, spec.environment, str(spec.cwd.resolve()), spec.grace_s, spec.resources)

    def spec(self, folder: Path, devices: tuple[str, ...]) -> AttemptSpec:
        """Return the attempt as an executor of the node starts it."""
        return AttemptSpec(
            folder, tuple(self.command), self.environment, Path(self.cwd), self.grace_s, self.resources, devices
        )


@dataclass(frozen=True)
class OrderFile:
    """The order in the folder of an attempt.

    Attributes:
        folder: the attempt's folder.
    """

    folder: Path

    @property
    def is_waiting(self) -> bool:
        """Whether a driver may still take the order."""
        return self._waiting.exists()

    @property
    def is_taken(self) -> bool:
        """Whether a driver has taken the order and has not started the attempt yet."""
        return self._taken.exists()

    def write(self, order: Order) -> None:
        """Write the order; raises OSError."""
        unfinished = self._waiting.with_name(f"{self._waiting.name}.{os.getpid()}")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(order), file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._waiting)

    def take(self) -> Order | None:
        """Return the order, which nobody else can take any more; None if it was taken or withdrawn before."""
        try:
            self._waiting.rename(self._taken)
        except FileNotFoundError:
            return None
        fields: dict[str, Any] = json.loads(self._taken.read_bytes())
        return Order(**{**fields, "command": tuple(fields["command"])})

    def withdraw(self) -> None:
        """Remove an order that nobody has taken."""
        self._waiting.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove an order that was taken, once the attempt has started or cannot start."""
        self._taken.unlink(missing_ok=True)

    @property
    def _waiting(self) -> Path:
        return AttemptDir(self.folder).order_json

    @property
    def _taken(self) -> Path:
        return AttemptDir(self.folder).taken_order_json
