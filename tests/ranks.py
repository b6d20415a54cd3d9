"""Functions that run in several processes at once, the ranks of a test."""

import os
from collections.abc import Callable
from multiprocessing import set_forkserver_preload
from pathlib import Path
from typing import Any

from torch import multiprocessing

from pipelines.run_folder.layout import RUN_DIR_VARIABLE

ROOT = Path(__file__).parents[1]

# The ranks are forked from a process that has imported this once, and never run anything.
set_forkserver_preload(["pipelines.run.fit"])


def run_ranks(function: Callable[..., None], num_ranks: int, *args: Any) -> None:
    """Run `function(rank, *args)` in as many processes, each with one thread; they meet over loopback."""
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment.pop(RUN_DIR_VARIABLE, None)
    multiprocessing.start_processes(
        _run, args=(environment, function, args), nprocs=num_ranks, start_method="forkserver"
    )


def _run(rank: int, environment: dict[str, str], function: Callable[..., None], args: tuple[Any, ...]) -> None:
    # A forked process has the environment in which the first ranks were started.
    os.environ.clear()
    os.environ.update(environment)
    function(rank, *args)
