"""The last few results of slow reads, such as those of large files, shared by all requests. Torch-free."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

T = TypeVar("T")


class SharedReads:
    """Keeps the results that were used last; requests for the same one wait while it is read once.

    Args:
        max_kept: number of results.
    """

    def __init__(self, max_kept: int) -> None:
        self._max_kept = max_kept
        self._lock = threading.Lock()  # held for a few instructions only
        self._reads: OrderedDict[Hashable, _Read] = OrderedDict()

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return the result for a key; one that fails is not kept.

        Args:
            key: names the result, with everything that it depends on.
            read: makes it.
        """
        with self._lock:
            entry = self._reads.setdefault(key, _Read())
            self._reads.move_to_end(key)
            if len(self._reads) > self._max_kept:
                self._reads.popitem(last=False)
        with entry.lock:
            if not entry.is_done:
                entry.value = read()
                entry.is_done = True
        return cast(T, entry.value)


class _Read:
    """One result; its lock is held while it is read."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_done = False
        self.value: Any = None
