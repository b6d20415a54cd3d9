"""Commands that work on the database of a service, on the machine of the service."""

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from pipelines.base.errors import ConfigError, FieldProblem, PyramidionError
from service.principal import LOCAL_TENANT, Principal
from service.settings import PREFIX, Settings
from service.store.database import open_database
from service.store.engines import address_of
from service.store.errors import SchemaUnknown, StoreUnavailable

Store = TypeVar("Store")


def database_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select the service."""
    root = click.option(
        "--root", type=click.Path(path_type=Path), metavar="DIR", help=f"Root of the service. [{PREFIX}ROOT]"
    )
    url = click.option("--database-url", metavar="URL", help=f"Database of the service. [{PREFIX}DATABASE_URL]")
    return root(url(command))


def settings_of_service(root: Path | None, database_url: str | None) -> Settings:
    """Return the settings of a service from the options of `database_options` and from the environment.

    Raises:
        ConfigError: a setting is invalid.
    """
    options: dict[str, Any] = {"root": root, "database_url": database_url}
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(
            [FieldProblem(f"{PREFIX}{str(one['loc'][0]).upper()}", one["msg"]) for one in error.errors()]
        ) from error


def require_database(settings: Settings) -> None:
    """Raise ConfigError if the root has no SQLite database, so that a mistyped root does not become a new service."""
    if settings.database_url is None and not (settings.root / "service.db").exists():
        raise ConfigError(
            FieldProblem("--root", f"{str(settings.root)!r} has no service.db; name the root of a service")
        )


@contextmanager
def opened_database(settings: Settings) -> Iterator[Any]:
    """Yield the engine of the database of a service; a missing one is created, and an old one migrated.

    Raises:
        ConfigError: a setting is invalid, or the database is of a newer version.
        PyramidionError: the database cannot be used at the moment.
    """
    try:
        engine = open_database(settings.url_of_database)
    except (ValueError, SchemaUnknown) as error:
        raise ConfigError(FieldProblem("", str(error))) from error
    except StoreUnavailable as error:
        raise PyramidionError(str(error)) from error
    try:
        yield engine
    except StoreUnavailable as error:
        raise PyramidionError(str(error)) from error
    finally:
        engine.dispose()


@contextmanager
def opened_store(
    store: Callable[[Any], Store], root: Path | None, database_url: str | None, *, may_create: bool = False
) -> Iterator[tuple[Store, str]]:
    """Yield a store over the database of a service, and the address of the database without its password.

    Args:
        store: creates the store for an engine.
        root: option of the command; otherwise the variable that `serve` reads.
        database_url: as `root`.
        may_create: whether the service may be started for the first time later.

    Raises:
        ConfigError: a setting is invalid, there is no database, or it is of a newer version.
        PyramidionError: the database cannot be used at the moment.
    """
    settings = settings_of_service(root, database_url)
    if not may_create:
        require_database(settings)
    with opened_database(settings) as engine:
        yield store(engine), address_of(engine)


def shell_user() -> Principal:
    """Return the user of this machine who runs the command, for the audit log."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # in a container, the user id may have no name
        name = "unknown"
    return Principal(f"{name[:50]} (shell)", LOCAL_TENANT)
