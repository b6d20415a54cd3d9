"""The end of a command: its exit code, and its errors as lines instead of tracebacks. Torch-free."""

import atexit
import errno
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from pipelines.base.errors import DISK_FULL_ERRNOS, ExitCode, PyramidionError, Stopped, print_error
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


def end_process(code: int) -> NoReturn:
    """End the process as `sys.exit` does, but leave its memory to the operating system.

    Threads are joined and exit handlers run. Otherwise the interpreter would search and free every object of the
    imported libraries, which takes a quarter of the processor time of a command that only imports the trainer.
    Profilers that write at the end of the interpreter, such as cProfile, write nothing: profile `main`.
    """
    with suppress(KeyboardInterrupt, Stopped):  # a signal ends the wait, and does not change the code
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    _flush_or_discard()
    os._exit(code)


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
        _flush_or_discard()
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        is_place = error.errno in _PLACE_ERRNOS and error.filename is not None
        if error.errno not in DISK_FULL_ERRNOS and not is_place:
            raise
        _flush_or_discard()
        print(f"error: {_text_of(error)}", file=sys.stderr)
        return ExitCode.FAILED


def _text_of(error: OSError) -> str:
    where = "cannot write" if error.filename is None else printable(os.fsdecode(error.filename))
    advice = "free disk space or write elsewhere"
    if error.errno not in DISK_FULL_ERRNOS:
        advice = "correct the path or its permissions, or name another place"
    return f"{where}: {error.strerror}; {advice}"


def _flush_or_discard() -> None:
    """Flush both streams, and let those that cannot be written discard their text, so that a later flush succeeds."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
