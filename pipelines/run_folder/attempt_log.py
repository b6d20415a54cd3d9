"""attempts/<n>/: who ran the attempt, what it said, how it ended, and why."""

import errno
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pipelines.errors import PyramidionError, Stopped
from pipelines.ranks import is_rank_zero
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, RunDir

FULL = {errno.ENOSPC, errno.EDQUOT}


class _Tee:
    """Writes to a stream and to a file; everything else is the stream's."""

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
    """Write run.json at the start, log.txt meanwhile, and exit.json at the end of the attempt; rank 0.

    Where the service runs the attempt, its shim writes these files.
    """
    if not is_rank_zero() or ATTEMPT_DIR_VARIABLE in os.environ:
        yield
        return
    folder = run_dir.attempt(run_dir.next_attempt())
    started = {"pid": os.getpid(), "host": platform.node(), "started": time.time(), "argv": sys.argv}
    write_atomic(folder / "run.json", json.dumps(started))
    stdout, stderr, code = sys.stdout, sys.stderr, 1
    with (folder / "log.txt").open("a", encoding="utf-8") as log:
        sys.stdout, sys.stderr = _Tee(stdout, log), _Tee(stderr, log)
        try:
            yield
            code = 0
        except PyramidionError as error:
            code = error.exit_code
            log.write(f"error: {error}\n")
            raise
        except Exception:
            traceback.print_exc(file=log)
            raise
        finally:
            sys.stdout, sys.stderr = stdout, stderr
            write_atomic(folder / "exit.json", json.dumps({"code": code, "ended": time.time()}))


@contextmanager
def failure_noted() -> Iterator[None]:
    """Write failure.json, {"kind", "message"}, where an error ends an attempt of the service; rank 0."""
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        if is_rank_zero() and (folder := os.environ.get(ATTEMPT_DIR_VARIABLE)):
            noted = json.dumps({"kind": failure_kind(error), "message": _told(error)})
            # What has ended the attempt (a full disk, say) may keep this from being written: then the log tells.
            with suppress(OSError):
                write_atomic(Path(folder) / "failure.json", noted)
        raise


def failure_kind(error: BaseException) -> str:
    """Return why an error ends a run, in the service's words."""
    if isinstance(error, PyramidionError):
        return error.failure_kind
    # torch may not be imported yet, and has an error of its own for a GPU's memory.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate" in str(error):
        return "out_of_memory"
    if isinstance(error, OSError) and error.errno in FULL:
        return "disk_full"
    return "internal"


def _told(error: Exception) -> str:
    if isinstance(error, PyramidionError):
        return str(error)
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
