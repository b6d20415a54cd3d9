"""`pyramidion audit`: the audit log of a service."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from pipelines.base.clock import format_moment
from pipelines.base.console import terminal_console
from service.commands.database_command import database_options, opened_store
from service.store.audit import AuditLog, AuditRow


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="List at most N changes.")
@click.option("--tenant", help="List only changes of what this tenant owns.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
@database_options
def audit(*, limit: int, tenant: str | None, as_json: bool, root: Path | None, database_url: str | None) -> int:
    """List who changed what, newest first."""
    with opened_store(AuditLog, root, database_url) as (log, _):
        rows = log.page(tenant=tenant, limit=limit)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        terminal_console().print(_table(rows) if rows else "no changes")
    return 0


def _table(rows: list[AuditRow]) -> Table:
    table = Table("time", "actor", "action", "target", "tenant", "outcome", "detail", box=SIMPLE_HEAD)
    for row in rows:
        time = format_moment(datetime.fromtimestamp(row.time, UTC))
        cells = (time, row.actor, row.action, row.target, row.tenant, row.outcome, row.detail or "")
        table.add_row(*map(escape, cells))
    return table
