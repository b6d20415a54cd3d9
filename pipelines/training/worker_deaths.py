"""The error when the operating system ends a data worker."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.base.errors import WorkerError
from pipelines.base.open_files import ensure_open_files
from pipelines.spec.data import DataSpec

# Torch raises a RuntimeError with one of these texts, wherever the process is when the worker ends.
_KILLED = re.compile(r"DataLoader worker \(pid (?P<pid>\d+)\) is killed by signal: (?P<signal>[^.]*)")
_TOO_MANY_FILES = re.compile(r"received \d+ items of ancdata|Too many open files")
_EXITED = re.compile(r"DataLoader worker \(pid(?:\(s\))? (?P<pid>[\d, ]+)\) exited unexpectedly")


@contextmanager
def explained_worker_deaths(spec: DataSpec) -> Iterator[None]:
    """Raise WorkerError in place of torch's error about a worker that was killed, has crashed, or cannot open files.

    Args:
        spec: `data` of the document, for the advice.

    Raises:
        ConfigError: the process may not open enough files for the workers.
    """
    ensure_open_files(spec.num_workers)
    try:
        yield
    except (RuntimeError, OSError) as error:
        # Torch raises the second text from an error with the first one, if it gets that while it waits for a batch.
        problem = _problem(f"{error} {error.__cause__}", spec.num_workers)
        if problem is None:
            raise
        raise WorkerError(f"{problem}; then run the same command again") from error


def _problem(text: str, num_workers: int) -> str | None:
    if _TOO_MANY_FILES.search(text):
        return "the process may not open more files, which data workers need; raise the limit with `ulimit -n`"
    lower = f"set data.num_workers (it is {num_workers}) or the batch size lower"
    if (killed := _KILLED.search(text)) is None:
        exited = _EXITED.search(text)
        return (
            exited and f"a data worker (process {exited['pid']}) ended unexpectedly; see its output above, or {lower}"
        )
    if killed["signal"].strip() == "Bus error":
        return (
            f"a data worker (process {killed['pid']}) was ended by a bus error: /dev/shm, through which workers send "
            f"images, is full; enlarge it (docker run --shm-size), or {lower}"
        )
    return (
        f"a data worker (process {killed['pid']}) was ended by the signal {killed['signal'].strip()}, as the system "
        f"does when memory runs out; {lower}"
    )
