"""attempts/<n>/: who ran the attempt, what it said, and how it ended."""

import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from pipelines.errors import PyramidionError
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.training.ranks import is_rank_zero


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
    if not is_rank_zero() or "PYRAMIDION_ATTEMPT_DIR" in os.environ:
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
