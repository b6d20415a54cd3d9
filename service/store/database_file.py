"""The file of an SQLite database, which must stay the one that was opened.

If it is deleted or replaced, open connections write to a file without a name, and everything that they write is gone
with the process. Connections of both kinds raise StoreUnavailable then.
"""

import os
import weakref
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from service.store.errors import StoreUnavailable


class FileWatch:
    """Lets an engine of an SQLite file refuse connections and commits once its path names another file, or none."""

    def __init__(self, engine: Engine) -> None:
        self._path = Path(str(engine.url.database))
        self._opened: os.stat_result | None = None
        for name in ("do_connect", "checkout", "commit"):
            event.listen(engine, name, self._check)

    def start(self) -> None:
        """Remember the file; raises OSError if it is missing."""
        # A descriptor keeps the number of the inode from being used again. Closing one that can read would release the
        # locks that SQLite holds on the file in this process.
        descriptor = os.open(self._path, os.O_PATH | os.O_CLOEXEC)
        weakref.finalize(self, os.close, descriptor)
        self._opened = os.fstat(descriptor)

    def _check(self, *_: Any) -> None:
        if self._opened is None:
            return
        try:
            if os.path.samestat(self._path.stat(), self._opened):
                return
            change = "replaced"
        except OSError:
            change = "deleted or cannot be found"
        raise StoreUnavailable(
            f"the file of the service's database was {change} since this process opened it; put it back, or restart "
            "the service"
        )
