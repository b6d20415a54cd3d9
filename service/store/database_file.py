"""The file of an SQLite database, which must stay the one that was opened.

If it is deleted or replaced, open connections write to a file without a name, and everything that they write is gone
with the process. Connections of both kinds raise StoreUnavailable then.
"""

import os
import weakref
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from service.store.errors import StoreUnavailable


def keep_watch_over_file(engine: Engine) -> None:
    """Let an engine of an SQLite file refuse connections and commits once its path names another file, or none."""
    path = Path(str(engine.url.database))
    # A descriptor keeps the number of the inode from being used again. Closing one that can read would release the
    # locks that SQLite holds on the file in this process.
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    weakref.finalize(engine, os.close, descriptor)
    opened = os.fstat(descriptor)

    def check() -> None:
        try:
            if os.path.samestat(path.stat(), opened):
                return
            change = "replaced"
        except OSError:
            change = "deleted or cannot be found"
        raise StoreUnavailable(
            f"the file of the service's database was {change} since this process opened it; put it back, or restart "
            "the service"
        )

    @event.listens_for(engine, "do_connect")
    def _connect(*_: Any) -> None:
        check()

    @event.listens_for(engine, "checkout")
    def _checkout(*_: Any) -> None:
        check()

    @event.listens_for(engine, "commit")
    def _commit(_: Connection) -> None:
        check()
