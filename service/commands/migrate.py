"""`pyramidion migrate`: another schema version for the database of a service, for an earlier version of the service."""

from pathlib import Path

import click

from pipelines.base.errors import ConfigError, FieldProblem, PyramidionError
from service.commands.database_command import database_options, settings_of_service
from service.store.database import migrate_database
from service.store.errors import SchemaUnknown, StoreUnavailable


@click.command()
@click.argument("version", required=False)
@click.option("--down", is_flag=True, help="Allow an older version, which removes what only newer ones store.")
@database_options
def migrate(*, version: str | None, down: bool, root: Path | None, database_url: str | None) -> int:
    """Migrate the database of a service to the newest schema, or to a VERSION such as 0004.

    Services do this when they start. A service that runs meanwhile answers with 503 until the schema is the one that it
    knows. Before you start an earlier version of the service, migrate down to the last version in its folder
    service/migrations/versions.
    """
    settings = settings_of_service(root, database_url)
    try:
        found, reached = migrate_database(settings.url_of_database, version, allow_down=down)
    except (ValueError, SchemaUnknown) as error:
        raise ConfigError(FieldProblem("", str(error))) from error
    except StoreUnavailable as error:
        raise PyramidionError(str(error)) from error
    print(f"schema {found or 'none'} -> {reached}" if found != reached else f"schema {reached}: nothing to do")
    return 0
