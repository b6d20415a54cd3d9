"""The capacity of a cluster, which may change, and which is unknown while the cluster does not answer."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pipelines.run_folder.files import write_atomic
from service.executors.base import ExecutorUnavailable
from service.resources import ResourceCounts

log = logging.getLogger(__name__)

REFRESH_S = 10.0
RETRY_S = 1.0


class LiveCapacity(Mapping[str, int]):
    """The counts of resources as an executor last reported them; a thread of its own asks again every ten seconds.

    The last report is also kept in a file, so that a service that starts while the cluster does not answer can accept
    jobs. The first service waits for the first report.

    Args:
        read: returns the capacity of an executor, or raises ExecutorUnavailable.
        file: where the last report is kept.
    """

    def __init__(self, read: Callable[[], ResourceCounts], file: Path) -> None:
        self._read, self._file, self._problem = read, file, ""
        self._counts: ResourceCounts = self._reported() or self._kept() or self._awaited()
        threading.Thread(target=self._repeat, daemon=True).start()

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def _repeat(self) -> None:
        while True:
            time.sleep(REFRESH_S)
            self._counts = self._reported() or self._counts

    def _reported(self) -> ResourceCounts | None:
        try:
            counts = dict(self._read())
        except ExecutorUnavailable as error:
            if str(error) != self._problem:
                log.warning("the capacity is unknown: %s", error)
            self._problem = str(error)
            return None
        self._problem = ""
        if counts != self._kept():
            with suppress(OSError):  # only a later start needs it
                write_atomic(self._file, json.dumps(counts))
        return counts

    def _kept(self) -> ResourceCounts | None:
        try:
            kept = json.loads(self._file.read_text())
            return {str(name): int(count) for name, count in kept.items()}
        except (OSError, ValueError, AttributeError):
            return None

    def _awaited(self) -> ResourceCounts:
        while (counts := self._reported()) is None:
            time.sleep(RETRY_S)
        return counts
