"""`pyramidion jobs | show | logs | cancel | results`: read and cancel the jobs of a service."""

import json
import sys
import time
from collections.abc import Sequence

import click

from pipelines.base.console import terminal_console
from pipelines.base.errors import PyramidionError, print_error
from service.client.client import FOLLOW_RETRY_S, Client
from service.client.tables import job_page, jobs_table
from service.commands.client_command import ClientCommand
from service.jobs.kinds.registry import job_kind
from service.states import JobStatus

POLL_S = 0.2

_STATUS = click.Choice([str(status) for status in JobStatus])
_job_id = click.argument("job_id", metavar="ID")


@click.command(cls=ClientCommand)
@click.option("--status", "statuses", multiple=True, type=_STATUS, help="List only jobs with this status; repeatable.")
@click.option("--kind", "kinds", multiple=True, help="List only jobs of this kind, such as fit; repeatable.")
@click.option("--name", help="List only jobs with this name.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="List at most this many jobs.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
@click.argument("more_statuses", nargs=-1, type=_STATUS, metavar="")
def jobs(
    statuses: Sequence[str],
    kinds: Sequence[str],
    name: str | None,
    limit: int,
    *,
    as_json: bool,
    more_statuses: Sequence[str],
) -> int:
    """List jobs, newest first."""
    # `--status A B` is the old spelling of `--status A --status B`.
    if more_statuses and not statuses:
        raise click.UsageError(f"unexpected argument {more_statuses[0]!r}; use --status {more_statuses[0]}")
    with Client() as client:
        found = client.jobs([JobStatus(status) for status in (*statuses, *more_statuses)], name, limit, kinds)
    if as_json:
        print(json.dumps([job.model_dump(mode="json") for job in found], indent=1))
    else:
        terminal_console().print(jobs_table(found) if found else "no jobs")
    return 0


@click.command(cls=ClientCommand)
@_job_id
@click.option("--json", "as_json", is_flag=True, help="Print the job as JSON.")
def show(job_id: str, *, as_json: bool) -> int:
    """Show one job: its progress, the reason why it waits, its attempts, and the reason why it failed."""
    with Client() as client:
        job = client.job(job_id)
    if as_json:
        print(job.model_dump_json(indent=1))
    else:
        terminal_console().print(job_page(job))
    return 0


@click.command(cls=ClientCommand)
@_job_id
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines until the job ends.")
@click.option("--attempt", type=click.IntRange(min=1), help="Number of the attempt.  [default: the last one]")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Print only the last N lines.")
def logs(job_id: str, *, follow: bool, attempt: int | None, tail: int | None) -> int:
    """Print the log of a job's trainer."""
    with Client() as client:
        read = client.follow_log if follow else client.log
        for line in read(job_id, attempt=attempt, tail=tail):
            print(line.text, flush=follow)
    return 0


@click.command(cls=ClientCommand)
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--no-wait", is_flag=True, help="Return without waiting until all processes of the jobs have ended.")
def cancel(job_ids: Sequence[str], *, no_wait: bool) -> int:
    """Cancel jobs in any state. A job that has already ended is an error."""
    code = 0
    requested = []
    with Client() as client:
        for job_id in job_ids:
            try:
                client.cancel(job_id)
                requested.append(job_id)
            except PyramidionError as error:
                code = print_error(error)
        for job_id in [] if no_wait else requested:
            while not (job := client.job(job_id, patience_s=FOLLOW_RETRY_S)).status.is_terminal:
                time.sleep(POLL_S)
            print(f"{job_id}: {job.status}", file=sys.stderr)
    return code


@click.command(cls=ClientCommand)
@_job_id
@click.option("--json", "as_json", is_flag=True, help="Print result.json.")
def results(job_id: str, *, as_json: bool) -> int:
    """Print the results of a job as tables."""
    with Client() as client:
        kind = job_kind(client.job(job_id).kind)
        result = client.results(job_id)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        kind.show_result(result, terminal_console())
    return 0
