"""`pyramidion submit`: submit a document as a job of a service; `--wait` follows the job until it has ended."""

import json
from collections.abc import Sequence
from typing import Any

import click

from pipelines.base.console import SafeConsole
from pipelines.command_line.arguments import OVERRIDES_HELP, dotted_overrides
from pipelines.spec.load import assemble
from service.client.client import Client
from service.client.tables import dry_run_page
from service.commands.client_command import DocumentCommand, overrides_of, requested_resources
from service.commands.waiting import EXIT_CODES_OF_WAIT, wait_for_end

EPILOG = f"{OVERRIDES_HELP}. With --wait: {EXIT_CODES_OF_WAIT}"


@click.command(cls=DocumentCommand, epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--priority", type=int, default=0, show_default=True, help="Jobs with a higher priority start earlier.")
@click.option("--cpus", type=int, help="CPU cores, and threads of the trainer.  [default: set by the server]")
@click.option("--gpus", type=int, help="Number of GPUs.  [default: set by the server]")
@click.option("--gpu-type", help="Type of the GPUs, as GET /v1/capabilities names it.  [default: any]")
@click.option("--timeout", type=float, metavar="S", help="Maximum seconds from the start to the end of the job.")
@click.option("--dry-run", is_flag=True, help="Check the job and report what it would train; submit nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the complete report of --dry-run as JSON.")
@click.option("--print-request", is_flag=True, help="Print the body of POST /v1/jobs as JSON; submit nothing.")
@click.option("--wait", is_flag=True, help="Show the progress until the job has ended, then print its results.")
@click.pass_context
def submit(
    context: click.Context,
    *,
    files: Sequence[str],
    priority: int,
    cpus: int | None,
    gpus: int | None,
    gpu_type: str | None,
    timeout: float | None,
    dry_run: bool,
    as_json: bool,
    print_request: bool,
    wait: bool,
) -> int:
    """Submit a job and print its id.

    FILE is a YAML file or recipe:NAME; values in later files win.
    """
    config = assemble(list(files), dotted_overrides(overrides_of(context)))
    resources: dict[str, float | str] = {**requested_resources(cpus, gpus, timeout)}
    if gpu_type is not None:
        resources["gpu_type"] = gpu_type
    request = {"config": config, "priority": priority, "resources": resources}
    if print_request:
        print(json.dumps(request, indent=1))
        return 0
    with Client() as client:
        if dry_run:
            return _dry_run(client, request, as_json=as_json)
        job = client.submit(request)
        print(job.id, flush=True)
        return wait_for_end(client, job.id) if wait else 0


def _dry_run(client: Client, request: dict[str, Any], *, as_json: bool) -> int:
    dry_run = client.dry_run(request)
    if as_json:
        print(dry_run.model_dump_json(indent=1))
    else:
        SafeConsole().print(dry_run_page(dry_run))
    return 0
