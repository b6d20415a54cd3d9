"""The JSON files of an attempt's folder. They are plain dataclasses: the shim, a small process, loads no pydantic.

As with the other files, readers ignore unknown fields.
"""

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipelines.run_folder.files import write_atomic

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class AttemptFile:
    """Content of one JSON file of an attempt."""

    def to_json(self) -> str:
        """Return the file's text."""
        return json.dumps(asdict(self))

    def write(self, path: Path) -> None:
        """Write the file whole; raises OSError."""
        write_atomic(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not JSON, or does not have this schema.
        """
        # mypy looks for the hash of an instance, not of the class.
        found: Self = _adapter(cls).validate_json(path.read_bytes())  # type: ignore[arg-type]
        return found

    @classmethod
    def read_if_valid(cls, path: Path) -> Self | None:
        """Read a file; return None if it is missing, unreadable or damaged."""
        try:
            return cls.read(path)
        except (OSError, ValueError):
            return None


@dataclass(frozen=True)
class ShimProcess(AttemptFile):
    """run.json, written by the service's shim: the process that runs the attempt.

    Attributes:
        start_time: of process `pid`, in clock ticks since boot; with `boot_id` it identifies the process.
        started: seconds since 1970.
        trainer_pid: the shim's child; None until it was started.
    """

    pid: int | None = None
    start_time: int | None = None
    boot_id: str | None = None
    host: str | None = None
    started: float | None = None
    trainer_pid: int | None = None


@dataclass(frozen=True)
class FitProcess(AttemptFile):
    """run.json, written by `pyramidion fit` if no service runs the attempt.

    Attributes:
        started: seconds since 1970.
        argv: the command line.
    """

    pid: int
    host: str
    started: float
    argv: list[str]


@dataclass(frozen=True)
class AttemptExit(AttemptFile):
    """exit.json, written after all processes of the attempt have ended.

    Attributes:
        code: exit code of the command; negative: the signal that ended it.
        ended: seconds since 1970.
        ran_out_of_memory: whether the kernel killed it for lack of memory.
    """

    code: int
    ended: float | None = None
    ran_out_of_memory: bool = False


@dataclass(frozen=True)
class AttemptFailure(AttemptFile):
    """failure.json: why the attempt failed, as far as the trainer itself knows.

    Attributes:
        kind: see `PyramidionError.failure_kind`.
        message: one problem per line.
    """

    kind: str
    message: str


@cache
def _adapter(schema: type[Any]) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter(schema)
