"""`pyramidion datasets upload | list | show | delete`: data sets of a service."""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from pipelines.base.console import terminal_console
from pipelines.base.errors import ConfigError, ExitCode, FieldProblem, PyramidionError, print_error
from pipelines.spec.load import read_document, write_yaml
from service.client.archives import packed
from service.client.client import Client
from service.client.dataset_tables import dataset_page, datasets_table
from service.client.datasets import (
    delete_dataset,
    find_dataset,
    list_datasets,
    register_folder,
    upload_archive,
    wait_until_checked,
)
from service.commands.client_command import ClientCommand
from service.commands.upload_progress import upload_progress
from service.rest.dataset_schemas import DatasetView
from service.store.dataset_records import DatasetStatus

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(cls=ClientCommand)
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--server-folder", metavar="DIR", help="Register a folder below a data root of the service instead.")
@click.option("--sources", metavar="FILE", help="Document whose data.sources say how the data is read.")
@click.option("--no-wait", is_flag=True, help="Return without waiting for the end of the check.")
@_as_json
def upload(
    name: str, path: Path | None, *, server_folder: str | None, sources: str | None, no_wait: bool, as_json: bool
) -> int:
    """Upload PATH, a zip, tar or tar.gz file or a folder, as a version of the data set NAME, and print the version.

    Uploading the same content again gives the same version. The exit code is 78 if the version is invalid.
    """
    if (path is None) == (server_folder is None):
        raise click.UsageError("pass either PATH or --server-folder DIR")
    given = None if sources is None else _sources_of(sources)
    with Client() as client, ExitStack() as stack:
        if server_folder is not None:
            view = register_folder(client, name, server_folder, given)
        else:
            assert path is not None
            archive = stack.enter_context(packed(path)) if path.is_dir() else path
            view = upload_archive(client, name, archive, given, stack.enter_context(upload_progress(archive)))
        if not no_wait:
            print(f"{view.reference}: the data is checked", file=sys.stderr)
            view = wait_until_checked(client, view.reference)
    _print(view, as_json=as_json)
    return ExitCode.INVALID if view.status is DatasetStatus.INVALID else 0


@click.command("list", cls=ClientCommand)
@click.option("--name", help="List only the versions of this data set.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="List at most this many.")
@_as_json
def list_versions(name: str | None, limit: int, *, as_json: bool) -> int:
    """List the versions of data sets, newest first."""
    with Client() as client:
        found = list_datasets(client, name, limit)
    if as_json:
        print(json.dumps([version.model_dump(mode="json") for version in found], indent=1))
    else:
        terminal_console().print(datasets_table(found) if found else "no data sets")
    return 0


@click.command(cls=ClientCommand)
@click.argument("reference", metavar="NAME[@VERSION]")
@click.option("--document", is_flag=True, help="Print only the drafted document, as YAML.")
@_as_json
def show(reference: str, *, document: bool, as_json: bool) -> int:
    """Show a version of a data set, by default the newest one that is ready."""
    with Client() as client:
        view = find_dataset(client, reference)
    if not document:
        _print(view, as_json=as_json)
        return 0
    if view.document is None:
        raise ConfigError(FieldProblem(view.reference, f"is {view.status} and has no drafted document"))
    print(write_yaml(view.document), end="")
    return 0


@click.command(cls=ClientCommand)
@click.argument("references", nargs=-1, required=True, metavar="NAME@VERSION...")
def delete(references: Sequence[str]) -> int:
    """Delete versions of data sets; a version that a job or a model needs is an error."""
    code = 0
    with Client() as client:
        for reference in references:
            try:
                if "@" not in reference:
                    message = "names no version; write NAME@VERSION, as `pyramidion datasets list` shows it"
                    raise ConfigError(FieldProblem(reference, message))
                delete_dataset(client, reference)
                print(f"{reference}: deleted", file=sys.stderr)
            except PyramidionError as error:
                code = print_error(error)
    return code


def _sources_of(config: str) -> dict[str, Any]:
    sources = (read_document(config).get("data") or {}).get("sources")
    if not isinstance(sources, dict):
        raise ConfigError(FieldProblem("--sources", f"got {config!r}, which has no data.sources"))
    return sources


def _print(view: DatasetView, *, as_json: bool) -> None:
    if as_json:
        print(view.model_dump_json(indent=1))
    else:
        terminal_console().print(dataset_page(view))
