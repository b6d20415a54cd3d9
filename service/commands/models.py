"""`pyramidion models list | show | compare | download | promote | delete`: the registered models of a service.

VERSION is the number of a version, or an alias that points to it.
"""

import re
import sys
from pathlib import Path

import click
from pydantic import BaseModel
from rich.console import RenderableType

from pipelines.base.console import terminal_console
from service.client.model_tables import comparison_page, deletion_question, model_page, models_table, version_page
from service.client.models import ModelsClient
from service.commands.client_command import ClientCommand

CHAMPION = "champion"
_NOT_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9_.-]|^[.]+")

_name = click.argument("name")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.command("list", cls=ClientCommand)
@_as_json
def list_models(*, as_json: bool) -> int:
    """List all models with their aliases."""
    with ModelsClient() as client:
        found = client.models()
    _print(found, models_table(found.models), as_json=as_json)
    return 0


@click.command(cls=ClientCommand)
@_name
@click.argument("version", required=False)
@_as_json
def show(name: str, *, version: str | None, as_json: bool) -> int:
    """Show a model with its versions and the moves of its aliases, or the origin of one VERSION (a number or alias)."""
    with ModelsClient() as client:
        if version is None:
            model = client.model(name)
            _print(model, model_page(model, client.promotions(name).promotions), as_json=as_json)
        else:
            details = client.model_version(name, client.number_of(name, version))
            _print(details, version_page(details), as_json=as_json)
    return 0


@click.command(cls=ClientCommand)
@_name
@click.argument("first")
@click.argument("second")
@_as_json
def compare(name: str, *, first: str, second: str, as_json: bool) -> int:
    """Compare two versions: metrics side by side, and the fields of their documents that differ.

    FIRST and SECOND are numbers of versions or aliases.
    """
    with ModelsClient() as client:
        compared = client.compare(name, client.number_of(name, first), client.number_of(name, second))
    _print(compared, comparison_page(compared), as_json=as_json)
    return 0


@click.command(cls=ClientCommand)
@_name
@click.argument("version", default=CHAMPION)
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE", help="The archive.  [default: NAME-VERSION.tar]"
)
def download(name: str, *, version: str, output: Path | None) -> int:
    """Download a version as a tar archive, and verify its checksum.

    VERSION is a number or an alias, by default champion.
    """
    with ModelsClient() as client:
        number = client.number_of(name, version)
        path = output or Path(f"{_NOT_IN_FILE_NAMES.sub('_', name)}-{number}.tar")
        client.download_archive(name, number, path)
    print(path)
    return 0


@click.command(cls=ClientCommand)
@_name
@click.argument("version")
@click.option("--alias", default=CHAMPION, show_default=True, help="The alias to point to the version.")
@click.option("--reason", default="", help="Why, for the history of the model.")
def promote(name: str, *, version: str, alias: str, reason: str) -> int:
    """Point an alias to a version (a number, or another alias)."""
    with ModelsClient() as client:
        number = client.number_of(name, version)
        previous = client.promote(name, alias, number, reason)
    before = "" if previous is None else f"version {previous} -> "
    print(f"{name}@{alias}: {before}version {number}", file=sys.stderr)
    return 0


@click.command(cls=ClientCommand)
@_name
@click.argument("version", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, *, version: str | None, yes: bool) -> int:
    """Delete a version with its files, or, without VERSION, a model with all versions.

    This is refused while an alias points to the version; for a model, while an alias other than candidate exists.
    """
    with ModelsClient() as client:
        number = None if version is None else client.number_of(name, version)
        if not yes:
            click.confirm(deletion_question(name, number, client.model(name)), abort=True, err=True)
        if number is None:
            client.delete_model(name)
        else:
            client.delete_version(name, number)
    print(f"deleted {name}" + ("" if number is None else f", version {number}"), file=sys.stderr)
    return 0


def _print(answer: BaseModel, page: RenderableType, *, as_json: bool) -> None:
    if as_json:
        print(answer.model_dump_json(indent=1))
        return
    terminal_console().print(page)
