"""The end of a command: its exit code, and its errors as lines instead of tracebacks. Torch-free."""

import errno
import os
import sys
from collections.abc import Callable

from pipelines.base.errors import DISK_FULL_ERRNOS, ExitCode, PyramidionError, print_error
from pipelines.base.printable import printable
from pipelines.base.terminal import escaped_output

_PLACE_ERRNOS = frozenset(
    {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST}
    | {errno.ENAMETOOLONG, errno.ELOOP}
)
"""Error numbers of a file or folder that cannot be read or created where it is."""


def exit_code_of(command: Callable[[], int]) -> int:
    """Run a command and return its exit code.

    Errors that users can fix are printed without a traceback: `PyramidionError`, a full disk, and places that cannot be
    written. A reader of the output that has ended, as after `| head`, ends the command silently. What is printed cannot
    control the terminal, see `pipelines.base.terminal`.
    """
    with escaped_output():
        return _exit_code_of(command)


def _exit_code_of(command: Callable[[], int]) -> int:
    try:
        code = command()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # None if it was closed when Python started
                stream.flush()
        return code
    except PyramidionError as error:
        return print_error(error)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        is_place = error.errno in _PLACE_ERRNOS and error.filename is not None
        if error.errno not in DISK_FULL_ERRNOS and not is_place:
            raise
        _discard_output()
        print(f"error: {_text_of(error)}", file=sys.stderr)
        return ExitCode.FAILED


def _text_of(error: OSError) -> str:
    where = "cannot write" if error.filename is None else printable(os.fsdecode(error.filename))
    advice = "free disk space or write elsewhere"
    if error.errno not in DISK_FULL_ERRNOS:
        advice = "correct the path or its permissions, or name another place"
    return f"{where}: {error.strerror}; {advice}"


def _discard_output() -> None:
    """Let the streams that cannot be written discard their text, so that the flush of Python's exit does not fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
