"""The files of an attempt that the trainer writes: run.json, log.txt and exit.json, and failure.json in the service."""

import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pipelines.base.errors import DISK_FULL_ERRNOS, ExitCode, PyramidionError, Stopped, error_text
from pipelines.base.printable import printable
from pipelines.base.ranks import is_rank_zero
from pipelines.run_folder.attempt_files import AttemptExit, AttemptFailure, FitProcess
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, AttemptDir, RunDir


class _Tee:
    """Writes to a stream and to a file; all other attributes are those of the stream."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self._stream, self._file = stream, file

    def write(self, text: str) -> int:
        self._file.write(text)
        self._file.flush()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


@contextmanager
def attempt_log(run_dir: RunDir) -> Iterator[None]:
    """Write run.json when the attempt starts, log.txt during it, and exit.json at its end, on rank 0.

    Where the service runs the attempt, its shim writes these files, and this does nothing.
    """
    if not is_rank_zero() or ATTEMPT_DIR_VARIABLE in os.environ:
        yield
        return
    attempt_dir = AttemptDir(run_dir.attempt(run_dir.next_attempt()))
    process = FitProcess(pid=os.getpid(), host=platform.node(), started=time.time(), argv=sys.argv)
    process.write(attempt_dir.run_json)
    stdout, stderr, code = sys.stdout, sys.stderr, 1
    with attempt_dir.log.open("a", encoding="utf-8") as log:
        sys.stdout, sys.stderr = _Tee(stdout, log), _Tee(stderr, log)
        try:
            yield
            code = 0
        except PyramidionError as error:
            code = error.exit_code
            log.write(f"{error_text(error)}\n")
            raise
        except BrokenPipeError:
            code = ExitCode.BROKEN_PIPE
            log.write("the reader of the output has ended\n")
            raise
        except Exception:
            traceback.print_exc(file=log)
            raise
        finally:
            sys.stdout, sys.stderr = stdout, stderr
            AttemptExit(code=code, ended=time.time()).write(attempt_dir.exit_json)


@contextmanager
def failure_recorded() -> Iterator[None]:
    """Write failure.json when an error ends an attempt of the service, on rank 0; a requested stop is not a failure."""
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        if is_rank_zero() and (folder := os.environ.get(ATTEMPT_DIR_VARIABLE)):
            failure = AttemptFailure(kind=failure_kind(error), message=_message(error))
            # The error itself (a full disk, for example) may prevent this write; the log then has the reason.
            with suppress(OSError):
                failure.write(AttemptDir(Path(folder)).failure_json)
        raise


def failure_kind(error: BaseException) -> str:
    """Return the reason that an error ends a run, as one of the service's failure kinds."""
    if isinstance(error, PyramidionError):
        return error.failure_kind
    # By name: torch may not be imported yet, and has its own error for the memory of a GPU.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in str(error):
        return "out_of_memory"
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return "disk_full"
    return "internal"


def _message(error: Exception) -> str:
    """Return the lines of a message in characters that every reader accepts: names of files may contain any."""
    lines = [printable(line) for line in str(error).strip().splitlines()]
    if isinstance(error, PyramidionError):
        return "\n".join(lines)
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
