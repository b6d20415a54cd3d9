"""`pyramidion sweep start | list | show | plot | cancel | delete`: the sweeps of a service."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pipelines.base.console import terminal_console
from pipelines.base.errors import ConfigError, ExitCode, FieldProblem
from pipelines.command_line.arguments import dotted_overrides
from pipelines.run_folder.files import write_atomic
from pipelines.spec.load import RECIPE_PREFIX, Document, apply_override, merge, read_document, read_yaml, write_yaml
from service.client.client import FOLLOW_RETRY_S
from service.client.sweep_tables import sweep_page, sweeps_table, trial_line
from service.client.sweeps import SweepsClient
from service.commands.client_command import ClientCommand, DocumentCommand, overrides_of, requested_resources
from service.rest.sweep_schemas import SweepView
from service.states import SweepStatus

POLL_S = 1.0
EXIT_CODES = {SweepStatus.SUCCEEDED: ExitCode.DONE, SweepStatus.CANCELLED: ExitCode.INTERRUPTED}
EPILOG = (
    "Any field of the sweep is an option by its dotted name: --trials 20, --document.trainer.max_epochs 3. With "
    "--wait: exit code 0: a trial has completed; 1: the sweep has failed; 130: cancelled. Ctrl-C leaves the sweep "
    "running."
)

_sweep_id = click.argument("sweep_id", metavar="ID")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_output = click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write the document of the best trial to this YAML file.",
)  # fmt: skip


@click.command(cls=DocumentCommand, epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--priority", type=int, default=0, show_default=True, help="Priority of the trials' jobs.")
@click.option("--cpus", type=int, help="CPU cores of each trial.  [default: set by the server]")
@click.option("--gpus", type=int, help="Number of GPUs of each trial.  [default: set by the server]")
@click.option("--timeout", type=float, metavar="S", help="Maximum seconds of each trial.")
@click.option("--print-request", is_flag=True, help="Print the body of POST /v1/sweeps as JSON; start nothing.")
@click.option("--wait", is_flag=True, help="Report trials until the sweep has ended, then show it.")
@_output
@click.pass_context
def start(
    context: click.Context,
    *,
    files: Sequence[str],
    priority: int,
    cpus: int | None,
    gpus: int | None,
    timeout: float | None,
    print_request: bool,
    wait: bool,
    output: Path | None,
) -> int:
    """Start a sweep and print its id.

    FILE is a YAML file; values in later files win. Its `document` is a job document, the name of a YAML file beside it,
    or recipe:NAME.
    """
    if output is not None and not wait:
        raise click.UsageError("--output needs --wait; `pyramidion sweep show ID --output FILE` writes it later")
    config = _assemble(files, dotted_overrides(overrides_of(context)))
    resources = requested_resources(cpus, gpus, timeout)
    request = {"config": config, "priority": priority, "resources": resources}
    if print_request:
        print(json.dumps(request, indent=1))
        return ExitCode.DONE
    with SweepsClient() as client:
        sweep = client.start(request)
        print(sweep.id, flush=True)
        return _wait(client, sweep, output) if wait else ExitCode.DONE


@click.command("list", cls=ClientCommand)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of sweeps.")
@_as_json
def list_sweeps(*, limit: int, as_json: bool) -> int:
    """List sweeps, newest first."""
    with SweepsClient() as client:
        found = client.sweeps(limit)
    if as_json:
        print(json.dumps([sweep.model_dump(mode="json") for sweep in found], indent=1))
    else:
        terminal_console().print(sweeps_table(found) if found else "no sweeps")
    return ExitCode.DONE


@click.command(cls=ClientCommand)
@_sweep_id
@_as_json
@_output
def show(sweep_id: str, *, as_json: bool, output: Path | None) -> int:
    """Show a sweep with its trials."""
    with SweepsClient() as client:
        sweep = client.sweep(sweep_id)
    if as_json:
        print(sweep.model_dump_json(indent=1))
    else:
        terminal_console().print(sweep_page(sweep))
    return ExitCode.DONE if output is None else _write_best(sweep, output)


@click.command(cls=ClientCommand)
@_sweep_id
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE",
    help="A .png file for the picture, or a .json file for its numbers.",
)  # fmt: skip
def plot(sweep_id: str, *, output: Path) -> int:
    """Write the parallel-coordinates plot of a sweep: an axis for each searched field, a line for each trial."""
    with SweepsClient() as client:
        if output.suffix == ".png":
            write_atomic(output, client.plot_picture(sweep_id))
        elif output.suffix == ".json":
            write_atomic(output, client.plot(sweep_id).model_dump_json(indent=1) + "\n")
        else:
            raise click.UsageError(f"--output: got {str(output)!r}; name a .png or a .json file")
    return ExitCode.DONE


@click.command(cls=ClientCommand)
@_sweep_id
@click.option("--no-wait", is_flag=True, help="Return without waiting until the jobs of all trials have ended.")
def cancel(sweep_id: str, *, no_wait: bool) -> int:
    """Cancel a sweep with its active trials. A sweep that has already ended is an error."""
    with SweepsClient() as client:
        client.cancel_sweep(sweep_id)
        while not no_wait and not (sweep := client.sweep(sweep_id, patience_s=FOLLOW_RETRY_S)).status.is_terminal:
            time.sleep(POLL_S)
        if not no_wait:
            print(f"{sweep_id}: {sweep.status}", file=sys.stderr)
    return ExitCode.DONE


@click.command(cls=ClientCommand)
@_sweep_id
def delete(sweep_id: str) -> int:
    """Delete a sweep that has ended; the jobs of its trials are kept."""
    with SweepsClient() as client:
        client.delete_sweep(sweep_id)
    return ExitCode.DONE


def _assemble(files: Sequence[str], overrides: Sequence[tuple[str, str]]) -> Document:
    """Return the document of a sweep from files and fields, with the job document that it names."""
    config: Document = {}
    for file in files:
        config = merge(config, read_document(file))
    named = config.get("document")
    if isinstance(named, str):
        beside = named if named.startswith(RECIPE_PREFIX) else str(Path(files[0]).parent / named)
        config["document"] = read_document(beside)
    for dotted, text in overrides:
        if dotted.startswith("search."):
            message = "names of searched fields have dots themselves; change the file instead"
            raise ConfigError(FieldProblem(f"--{dotted}", message))
        config = apply_override(config, dotted, read_yaml(text, f"--{dotted}"))
    return config


def _wait(client: SweepsClient, sweep: SweepView, output: Path | None) -> int:
    """Report changes of trials until a sweep has ended; return the exit code of the command."""
    reported: dict[int, str] = {}
    try:
        while True:
            for trial in sweep.trials:
                if reported.get(trial.number) != trial.state:
                    reported[trial.number] = trial.state
                    print(trial_line(sweep, trial), file=sys.stderr, flush=True)
            if sweep.status.is_terminal:
                break
            time.sleep(POLL_S)
            sweep = client.sweep(sweep.id, patience_s=FOLLOW_RETRY_S)
    except KeyboardInterrupt:
        print(f"sweep {sweep.id} keeps running; cancel it with `pyramidion sweep cancel {sweep.id}`", file=sys.stderr)
        raise
    terminal_console().print(sweep_page(sweep))
    if sweep.status is SweepStatus.FAILED:
        print(f"error: sweep {sweep.id} has failed: {sweep.message}", file=sys.stderr)
    code = EXIT_CODES.get(sweep.status, ExitCode.FAILED)
    return _write_best(sweep, output) or code if output is not None else code


def _write_best(sweep: SweepView, output: Path) -> int:
    """Write the document of the best trial; return 1 if there is none."""
    if sweep.best is None:
        print(f"error: {output} was not written: no trial of sweep {sweep.id} is complete and meets the constraints",
              file=sys.stderr)  # fmt: skip
        return ExitCode.FAILED
    values: dict[str, Any] = sweep.best.params
    comment = f"Trial {sweep.best.number} of sweep {sweep.id}: {sweep.metric} = {sweep.best.value:.6g} with {values}"
    write_atomic(output, write_yaml(sweep.best.document, comment))
    return ExitCode.DONE
