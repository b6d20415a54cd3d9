"""Translation of database errors to errors of the store, the only module that interprets a driver's errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, TimeoutError

from service.store.errors import StoreFull, StoreUnavailable

_UNAVAILABLE = {
    "SQLITE_BUSY": "another process has locked the service's database",
    "SQLITE_CANTOPEN": "the file of the service's database cannot be opened",
    "SQLITE_IOERR": "the disk of the service's database cannot be read or written",
    "SQLITE_READONLY": "the service's database is read-only",
}
_FULL = "the disk of the service's database is full"
_POSTGRESQL_DISK_FULL = "53100"


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise StoreUnavailable or StoreFull for errors that may disappear in a moment, or after the machine is repaired.

    Every other database error is a mistake in the code and is raised unchanged.
    """
    try:
        yield
    except TimeoutError as error:
        raise StoreUnavailable("all connections to the service's database are in use") from error
    except DBAPIError as error:
        translated = _translate(error)
        if translated is None:
            raise
        raise translated from error


def _translate(error: DBAPIError) -> StoreUnavailable | None:
    # An extended code such as SQLITE_IOERR_WRITE starts with its primary code.
    code = "_".join(str(getattr(error.orig, "sqlite_errorname", "")).split("_")[:2])
    if code == "SQLITE_FULL" or getattr(error.orig, "sqlstate", None) == _POSTGRESQL_DISK_FULL:
        return StoreFull(_FULL)
    if code in _UNAVAILABLE:
        return StoreUnavailable(_UNAVAILABLE[code])
    return StoreUnavailable("the connection to the service's database broke") if error.connection_invalidated else None
