"""`pyramidion backup DIR` and `pyramidion restore DIR`."""

import time
from pathlib import Path

import click

from pipelines.base.errors import ConfigError, FieldProblem, PyramidionError
from pipelines.base.quantities import quantity
from service.backup.create import create_backup
from service.backup.restore import restore_backup
from service.commands.database_command import database_options, opened_database, require_database, settings_of_service
from service.store.errors import SchemaUnknown, StoreUnavailable

_folder = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


@click.command()
@_folder
@database_options
def backup(folder: Path, *, root: Path | None, database_url: str | None) -> int:
    """Write a backup of a service to a new folder: database, MLflow store and all files of its root.

    The service may run meanwhile. A backup is complete once DIR contains manifest.json.
    """
    settings = settings_of_service(root, database_url)
    require_database(settings)
    started = time.monotonic()
    with opened_database(settings) as engine:
        create_backup(settings, engine, folder, print)
    print(f"Backup in {folder}, complete after {time.monotonic() - started:.1f} s")
    return 0


@click.command()
@_folder
@database_options
def restore(folder: Path, *, root: Path | None, database_url: str | None) -> int:
    """Restore a backup into an empty root and an empty database, which may be of the other kind.

    Jobs that were running when the backup was made are queued and resume from their checkpoints.
    """
    settings = settings_of_service(root, database_url)
    try:
        restored = restore_backup(settings, folder, print)
    except (ValueError, SchemaUnknown) as error:
        raise ConfigError(FieldProblem("--database-url", str(error))) from error
    except StoreUnavailable as error:
        raise PyramidionError(str(error)) from error
    jobs = quantity(len(restored.resumed), "job")
    print(f"Restored into {settings.root}; {jobs} will resume. Start the service on this root, and stop the old one.")
    return 0
