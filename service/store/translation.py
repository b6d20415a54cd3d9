"""Translation of database errors to errors of the store, the only module that interprets a driver's errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, TimeoutError

from service.store.errors import OutcomeUnknown, SchemaChanged, SchemaUnknown, StoreFull, StoreUnavailable
from service.store.schema import is_current

_LOCKED = "another process has locked the service's database"
_READ_ONLY = "the service's database is read-only"
_FULL = "the disk of the service's database is full"
_BROKEN = "the connection to the service's database broke"
_SQLITE = {
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_CANTOPEN": "the file of the service's database cannot be opened",
    "SQLITE_IOERR": "the disk of the service's database cannot be read or written",
    "SQLITE_READONLY": _READ_ONLY,
}
_POSTGRESQL = {
    "25006": _READ_ONLY,
    "25P03": _BROKEN,
    "40001": "another transaction has changed the same rows of the service's database",
    "40P01": "another transaction has locked the same rows of the service's database",
    "53200": "the server of the service's database is out of memory",
    "53300": "the server of the service's database has no free connection",
    "55P03": _LOCKED,
    "57014": "the service's database took too long to answer",
    "57P01": "the server of the service's database is stopping",
    "57P02": "the server of the service's database has crashed",
    "57P03": "the server of the service's database is starting or stopping",
    "57P05": _BROKEN,
}
_POSTGRESQL_DISK_FULL = "53100"
_POSTGRESQL_NOT_PERMITTED = "42501"
_POSTGRESQL_SCHEMA = {"42P01", "42703"}
_SQLITE_SCHEMA = ("no such table", "no such column", "has no column named")


@contextmanager
def translated_errors(engine: Engine) -> Iterator[None]:
    """Raise StoreUnavailable or a subclass for errors that may disappear in a moment, or after a repair.

    Every other database error is a mistake in the code and is raised unchanged.
    """
    try:
        yield
    except TimeoutError as error:
        raise StoreUnavailable("all connections to the service's database are in use") from error
    except DBAPIError as error:
        translated = _translate(error)
        if translated is None and _is_about_schema(error) and not _has_current_schema(engine):
            translated = SchemaChanged()
        if translated is None:
            raise
        raise translated from error


@contextmanager
def translated_commit() -> Iterator[None]:
    """Raise OutcomeUnknown if the connection breaks: the server may have received the commit."""
    try:
        yield
    except DBAPIError as error:
        if error.connection_invalidated:
            raise OutcomeUnknown(
                f"{_BROKEN} while a change was written; look whether it was made before you repeat it"
            ) from error
        raise


def _translate(error: DBAPIError) -> StoreUnavailable | None:
    # An extended code such as SQLITE_IOERR_WRITE starts with its primary code.
    code = "_".join(str(getattr(error.orig, "sqlite_errorname", "")).split("_")[:2])
    state = str(getattr(error.orig, "sqlstate", None))
    if code == "SQLITE_FULL" or state == _POSTGRESQL_DISK_FULL:
        return StoreFull(_FULL)
    if code in _SQLITE:
        return StoreUnavailable(_SQLITE[code])
    if state in _POSTGRESQL:
        return StoreUnavailable(_POSTGRESQL[state])
    if state == _POSTGRESQL_NOT_PERMITTED:
        return StoreUnavailable(
            f"the account of the service in its database lacks a permission: {_first_line(error)}; grant it to the "
            "user in PYRAMIDION_DATABASE_URL"
        )
    if error.connection_invalidated or state.startswith("08"):
        return StoreUnavailable(_BROKEN)
    if state == "None" and _is_operational_error_of_psycopg(error):
        return StoreUnavailable(f"the server of the service's database cannot be reached: {_first_line(error)}")
    return None


def _is_operational_error_of_psycopg(error: DBAPIError) -> bool:
    kinds = type(error.orig).__mro__
    return any((kind.__module__, kind.__name__) == ("psycopg", "OperationalError") for kind in kinds)


def _is_about_schema(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) in _POSTGRESQL_SCHEMA or (
        hasattr(error.orig, "sqlite_errorname") and any(part in str(error.orig) for part in _SQLITE_SCHEMA)
    )


def _has_current_schema(engine: Engine) -> bool:
    try:
        return is_current(engine)
    except SchemaUnknown:
        return False
    except DBAPIError:
        return True


def _first_line(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__
