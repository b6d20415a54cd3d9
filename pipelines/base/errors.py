"""Errors of a run and the exit codes of its process.

PyramidionError
├── ConfigError     78  the document, or something it names, is invalid
├── DataError       78  the label files or the images are invalid
├── NumericsError   65  a loss is not finite
├── OutOfMemory      1  a batch does not fit the device's memory
├── RankError        *  another process of the run has ended; the code is that of the other process
├── RegistryError    1  MLflow's registry does not respond, or refuses a request
├── WorkerError      1  the operating system has ended a data worker
└── Stopped         75  stopped on request; the same command resumes

`failure_kind` is the service's name for the cause.
"""

import errno
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a write that failed because the disk, or the user's quota of it, is full."""


class ExitCode(IntEnum):
    """Exit codes of the commands; those of signals are 128 plus the signal's number."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NUMERICS = 65
    STOPPED = 75
    INVALID = 78
    INTERRUPTED = 130
    BROKEN_PIPE = 141


@dataclass(frozen=True)
class FieldProblem:
    """One problem: `field` is a dotted name in the document, an option, or a file; `message` says what is wrong with
    the value and what would be right."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class PyramidionError(Exception):
    """Base of all errors with a message for users; the process ends with `exit_code`."""

    exit_code: int = ExitCode.FAILED
    failure_kind = "internal"


class ConfigError(PyramidionError):
    """The document is invalid; the message has one line for each problem."""

    exit_code = ExitCode.INVALID
    failure_kind = "config_invalid"

    def __init__(self, problems: Sequence[FieldProblem] | FieldProblem | str) -> None:
        if isinstance(problems, str):
            problems = FieldProblem("", problems)
        self.problems = [problems] if isinstance(problems, FieldProblem) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[list[FieldProblem]]]:
        """Keep the problems when the error passes to another process."""
        return type(self), (self.problems,)

    def to_json(self) -> str:
        """Return the problems as a JSON list, which commands print with `--json`."""
        return json.dumps([{"field": problem.field, "message": problem.message} for problem in self.problems])


class DataError(ConfigError):
    """The data is invalid; `field` of a problem is a file, or a field of the document."""

    failure_kind = "data_invalid"


class NumericsError(PyramidionError):
    """A loss is not finite; the message names the loss term."""

    exit_code = ExitCode.NUMERICS
    failure_kind = "numerics"


class OutOfMemory(PyramidionError):
    """A batch does not fit the device's memory; the message names a batch size that fits."""

    failure_kind = "out_of_memory"


class RankError(PyramidionError):
    """Another rank has ended; `exit_code` and `failure_kind` are those of that rank, if it reported an error."""

    def __init__(self, message: str, exit_code: int = 1, failure_kind: str = "internal") -> None:
        super().__init__(message, exit_code, failure_kind)
        self.exit_code = exit_code
        self.failure_kind = failure_kind

    def __str__(self) -> str:
        return str(self.args[0])


class RegistryError(PyramidionError):
    """MLflow's registry does not respond, or refuses a request; the trained model is unaffected."""


class ModelFilesUnavailable(PyramidionError):
    """The registry has a version whose files are missing, or at an address that is not fetched."""


class WorkerError(PyramidionError):
    """The operating system has ended a data worker, for lack of memory perhaps."""


class Stopped(PyramidionError):
    """The command was stopped on request, which is not an error; a run has a checkpoint, if training has started."""

    exit_code = ExitCode.STOPPED


def print_error(error: PyramidionError) -> int:
    """Print one line to stderr for each problem, and return the exit code."""
    print(error_text(error), file=sys.stderr)
    return error.exit_code


def error_text(error: PyramidionError) -> str:
    """Return the lines that users read; a requested stop is not called an error."""
    prefix = "" if error.exit_code == ExitCode.STOPPED else "error: "
    return "\n".join(f"{prefix}{line}" for line in str(error).splitlines())
