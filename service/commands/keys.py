"""`pyramidion keys create | list | revoke`: the API keys of a service."""

import json
import re
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from pipelines.base.clock import format_moment
from pipelines.base.console import terminal_console
from pipelines.base.errors import ConfigError, FieldProblem
from service.commands.database_command import database_options, opened_store, shell_user
from service.keys.key_text import shown_prefix
from service.keys.use_cases import Keys
from service.principal import LOCAL_TENANT, KeyLimits
from service.scopes import MEANINGS, Scope
from service.store.api_keys import ApiKey, KeyStore

_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_LIFE = re.compile(r"([1-9]\d{0,5})([mhdw])", re.ASCII)
_SCOPE = click.Choice([str(scope) for scope in Scope])
_SCOPES_HELP = "Permission of the key; repeatable. " + "; ".join(
    f"{scope}: {meaning}" for scope, meaning in MEANINGS.items()
)


@click.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, type=_SCOPE, help=_SCOPES_HELP)
@click.option("--tenant", default=LOCAL_TENANT, show_default=True, help="Owner of what the key creates, and sees.")
@click.option("--expires", metavar="TIME", help="Life of the key, such as 90d or 12h, or a date.  [default: unlimited]")
@click.option("--requests-per-minute", type=click.IntRange(1), metavar="N", help="Instead of the server's limit.")
@click.option("--queued-jobs", type=click.IntRange(1), metavar="N", help="Instead of the server's limit.")
@click.option("--storage-bytes", type=click.IntRange(1), metavar="N", help="Instead of the server's limit.")
@database_options
def create(
    name: str,
    *,
    scopes: Sequence[str],
    tenant: str,
    expires: str | None,
    requests_per_minute: int | None,
    queued_jobs: int | None,
    storage_bytes: int | None,
    root: Path | None,
    database_url: str | None,
) -> int:
    """Create a key and print it. It is stored as a hash only, so it cannot be printed again."""
    expires_at = None if expires is None else _end_of_life(expires)
    limits = KeyLimits(requests_per_minute, queued_jobs, storage_bytes)
    with opened_store(KeyStore, root, database_url, may_create=True) as (store, address):
        key, text = Keys(store).create(
            shell_user(),
            name,
            frozenset(map(Scope, scopes)),
            tenant=tenant,
            expires_at=expires_at,
            limits=limits,
        )
        print(
            f"key {shown_prefix(key.id)} of the tenant {tenant!r} is in {address}; store it now, it cannot be "
            "shown again",
            file=sys.stderr,
        )
    print(text)
    return 0


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
@database_options
def list_keys(*, as_json: bool, root: Path | None, database_url: str | None) -> int:
    """List all keys with their scopes, expiry and last use."""
    with opened_store(KeyStore, root, database_url) as (store, _):
        keys = Keys(store).list_keys()
    if as_json:
        rows = [
            {
                "key": shown_prefix(key.id),
                "name": key.name,
                "tenant": key.tenant,
                "scopes": sorted(key.scopes),
                "is_usable": key.is_usable,
                "created_at": key.created_at,
                "expires_at": key.expires_at,
                "revoked_at": key.revoked_at,
                "last_used_at": key.last_used_at,
            }
            for key in keys
        ]
        print(json.dumps(rows, indent=1))
    else:
        console = terminal_console()
        console.print(_table(keys) if keys else "no keys: everyone who reaches the server may do everything")
    return 0


@click.command()
@click.argument("key", metavar="KEY")
@database_options
def revoke(key: str, *, root: Path | None, database_url: str | None) -> int:
    """Revoke a key: the service rejects it within seconds. KEY is its prefix, or the name of one usable key.

    The service needs a key also after the last one is revoked; `pyramidion serve --require-keys false` opens it again
    on this machine.
    """
    with opened_store(KeyStore, root, database_url) as (store, _):
        revoked = Keys(store).revoke(shell_user(), key)
    print(f"{shown_prefix(revoked.id)} ({revoked.name}) is revoked", file=sys.stderr)
    return 0


def _table(keys: Sequence[ApiKey]) -> Table:
    table = Table("key", "name", "tenant", "scopes", "created", "expires", "last used", "state", box=SIMPLE_HEAD)
    for key in keys:
        state = "revoked" if key.revoked_at is not None else "usable" if key.is_usable else "expired"
        times = (_date(moment) for moment in (key.created_at, key.expires_at, key.last_used_at))
        cells = (shown_prefix(key.id), key.name, key.tenant, " ".join(sorted(key.scopes)), *times, state)
        table.add_row(*map(escape, cells))
    return table


def _date(seconds: float | None) -> str:
    return "" if seconds is None else format_moment(datetime.fromtimestamp(seconds, UTC))


def _end_of_life(text: str) -> float:
    """Return the time in seconds since 1970 that an option describes; raises ConfigError."""
    now = time.time()
    if life := _LIFE.fullmatch(text):
        return now + int(life.group(1)) * _UNITS_S[life.group(2)]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            FieldProblem("--expires", f"got {text!r}; write a life such as 90d or 12h, or a date such as 2027-01-31")
        ) from None
    ends_at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if ends_at <= now:
        raise ConfigError(FieldProblem("--expires", f"got {text!r}, which has passed; choose a later time"))
    return ends_at
