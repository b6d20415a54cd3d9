"""The number of files that a process may have open: raised as far as the system allows, and checked. Torch-free."""

import resource

from pipelines.base.errors import ConfigError, FieldProblem

MAX_RAISED = 65_536
"""Programs that look at every possible file when they start would be slow with a higher limit."""
_PROCESS = 128
"""Files of a trainer without workers: libraries, logs, the MLflow store, connections to other ranks."""
_LOADERS = 3
"""Training, validation, and the gallery of an embedding."""
_WORKER, _LOADER = 8, 8
"""Pipes of a worker with the batches that it has fetched ahead, and pipes of a loader."""


def ensure_open_files(num_workers: int) -> None:
    """Raise the soft limit of open files of this process to its hard limit.

    Args:
        num_workers: `data.num_workers` of the document.

    Raises:
        ConfigError: the limit is still so low that loading data would hang.
    """
    limit = raise_limit()
    needed = _PROCESS + _LOADERS * (_LOADER + num_workers * _WORKER if num_workers else 0)
    if limit < needed:
        lower = ", or set data.num_workers lower" if num_workers and limit >= _PROCESS else ""
        message = f"got a limit of {limit} open files; this run needs {needed}: raise it with `ulimit -Hn {needed}`"
        raise ConfigError(FieldProblem("ulimit -n", f"{message} or in the settings of the container or user{lower}"))


def raise_limit() -> int:
    """Raise the soft limit of open files of this process as far as possible, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_RAISED if hard == resource.RLIM_INFINITY else min(hard, MAX_RAISED)
    if soft == resource.RLIM_INFINITY:
        return MAX_RAISED
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
