"""Data workers: processes that prepare batches, and that end when their loader or its process ends."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, Dataset

from pipelines.base.signals import held_stop_signals
from pipelines.data.loading.sample import Sample

PARENT_CHECK_S = 1.0
"""Interval at which a worker checks that its parent is alive."""


class SampleLoader(DataLoader[Sample]):
    """A loader whose workers ignore SIGTERM and SIGINT to the process group.

    The process that loads decides when a run stops: it still needs its workers for the batches before, or ends them.
    Workers also end within seconds after their process was killed.
    """

    def __init__(self, dataset: Dataset[Any], **options: Any) -> None:
        super().__init__(dataset, worker_init_fn=partial(_start_watching, os.getpid()), **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # Workers start here and inherit the blocked signals. A handler that a worker sets itself would be too late for
        # a signal in its first milliseconds.
        with held_stop_signals():
            return super().__iter__()


def _start_watching(parent: int, worker: int) -> None:
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    """End this worker when its parent has died, or has sent SIGTERM to it: torch does so to a worker that hangs."""
    while os.getppid() == parent:
        if hasattr(signal, "sigtimedwait"):
            received = signal.sigtimedwait({signal.SIGTERM}, PARENT_CHECK_S)
            if received is not None and received.si_pid == parent:
                os._exit(0)
        else:
            time.sleep(PARENT_CHECK_S)
    os._exit(1)
