"""`pyramidion gc`: delete what the retention rules do not keep. Its options are those of `pyramidion serve`."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from pipelines.base.console import terminal_console
from pipelines.base.errors import ExitCode
from pipelines.base.quantities import quantity
from service.commands.database_command import opened_database, require_database
from service.commands.serve import read_settings
from service.retention.candidates import Deletion
from service.retention.collection import Collection
from service.settings import Settings


def run(arguments: Sequence[str]) -> int:
    """Delete, or print what would be deleted; return 1 if something could not be deleted or decided.

    Raises:
        ConfigError: a setting is invalid, or there is no database.
        PyramidionError: the database cannot be used at the moment.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--dry-run", action="store_true", help="only print what would be deleted")
    own.add_argument("--json", action="store_true", help="print JSON instead of a table")
    flags, settings_arguments = own.parse_known_args(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="pyramidion gc",
        description="Delete what the retention rules of a service do not keep: --keep-... options or PYRAMIDION_KEEP_* "
        "variables. The supervisor does this too, every --gc-every-s seconds; it is safe while the service runs. The "
        "sources of registered models, and what a waiting or running job needs, are always kept.",
        parents=[own],
        allow_abbrev=False,
    )
    return _collect(read_settings(parser, settings_arguments), is_dry=flags.dry_run, as_json=flags.json)


def _collect(settings: Settings, *, is_dry: bool, as_json: bool) -> int:
    require_database(settings)
    with opened_database(settings) as engine:
        collection = Collection(settings, engine)
        deletions = list(collection.find()) if is_dry else collection.carry_out()
    if as_json:
        print(json.dumps(_document(deletions, collection.problems, settings, is_dry=is_dry), indent=1))
    else:
        _print(deletions, collection.problems, settings, is_dry=is_dry)
    return ExitCode.FAILED if collection.problems else ExitCode.DONE


def _document(
    deletions: Sequence[Deletion], problems: Sequence[str], settings: Settings, *, is_dry: bool
) -> dict[str, Any]:
    rows = [{**asdict(one), "paths": _relative(one, settings)} for one in deletions]
    return {
        "dry_run": is_dry,
        "num_bytes": sum(one.num_bytes for one in deletions),
        "deletions": rows,
        "problems": list(problems),
    }


def _print(deletions: Sequence[Deletion], problems: Sequence[str], settings: Settings, *, is_dry: bool) -> None:
    console = terminal_console()
    if deletions:
        table = Table("what", "job", "name", "bytes", "files", "reason", box=SIMPLE_HEAD)
        table.columns[3].justify = "right"
        for one in deletions:
            files = quantity(one.num_rows, "event") if one.num_rows else ", ".join(_relative(one, settings))
            table.add_row(str(one.kind), *map(escape, (one.job_id, one.name, f"{one.num_bytes:,}", files, one.reason)))
        console.print(table)
    verb = "would be deleted" if is_dry else "deleted"
    console.print(f"{sum(one.num_bytes for one in deletions):,} bytes {verb}, {quantity(len(deletions), 'item')}")
    for problem in problems:
        console.print(f"problem: {problem}", markup=False, soft_wrap=True)


def _relative(deletion: Deletion, settings: Settings) -> list[str]:
    return [str(path.relative_to(settings.root)) for path in deletion.paths]
