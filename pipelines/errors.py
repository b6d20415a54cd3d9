"""What can go wrong in a run, and the exit code that says so.

PyramidionError
├── ConfigError     78  the document, or what it points at, is wrong
├── DataError       78  the label files or the images are wrong
├── NumericsError   65  a loss is not finite
├── OutOfMemory      1  a batch does not fit the device's memory
├── RankError        *  another process of the run has ended; the code is that one's
├── RegistryError    1  MLflow's registry does not answer, or refuses
└── Stopped         75  stopped on request, with a checkpoint written

`failure_kind` is the word by which the service knows the same.
"""

import errno
import sys
from collections.abc import Sequence
from dataclasses import dataclass

DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a write that failed because the disk, or the user's quota of it, is full."""


@dataclass(frozen=True)
class FieldProblem:
    """One thing that is wrong: `field` is a dotted path of the document (or a file), `message` says what is wrong
    with the value and what would be right."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class PyramidionError(Exception):
    """Base of all errors that users are meant to read; `exit_code` ends the process."""

    exit_code = 1
    failure_kind = "internal"


class ConfigError(PyramidionError):
    """The document is wrong; one problem a line."""

    exit_code = 78
    failure_kind = "config_invalid"

    def __init__(self, problems: Sequence[FieldProblem] | FieldProblem | str) -> None:
        # torch raises a data worker's error again in the main process, from its type and one string.
        if isinstance(problems, str):
            problems = FieldProblem("", problems)
        self.problems = [problems] if isinstance(problems, FieldProblem) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DataError(ConfigError):
    """The data is wrong; one problem a line, `field` names the file or the document's field."""

    failure_kind = "data_invalid"


class NumericsError(PyramidionError):
    """A loss is not finite; the message names the term."""

    exit_code = 65
    failure_kind = "numerics"


class OutOfMemory(PyramidionError):
    """A batch does not fit the device's memory; the message names a size that does."""

    failure_kind = "out_of_memory"


class RankError(PyramidionError):
    """Another rank has ended; `exit_code` and `failure_kind` are that rank's where it says what is wrong."""

    def __init__(self, message: str, exit_code: int = 1, failure_kind: str = "internal") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.failure_kind = failure_kind


class RegistryError(PyramidionError):
    """MLflow's registry does not answer, or refuses; what was trained is not touched."""


class Stopped(PyramidionError):
    """The run was asked to stop; a checkpoint is written."""

    exit_code = 75


def tell(error: PyramidionError) -> int:
    """Print the error for people, a line for each problem, and return the exit code that it asks for."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return error.exit_code
