"""`pyramidion models export` and `exports`: versions of models in other runtimes."""

from typing import Any

import click

from pipelines.base.console import terminal_console
from pipelines.base.errors import ExitCode
from service.client.export_tables import exports_table
from service.client.models import ModelsClient
from service.commands.client_command import ClientCommand
from service.commands.waiting import EXIT_CODES_OF_WAIT, wait_for_end

EPILOG = f"With --wait: {EXIT_CODES_OF_WAIT} 1 is also the code of an export that may not be served."


@click.command(cls=ClientCommand, epilog=EPILOG)
@click.argument("name")
@click.argument("version")
@click.option("--to", type=click.Choice(["onnx", "openvino"]), required=True, help="Format of the graph.")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "int8"]), default="fp32", show_default=True,
    help="bf16: openvino only; int8: quantized after training.",
)  # fmt: skip
@click.option(
    "--max-drop", type=float, metavar="X",
    help="By how much the main metric of each task may fall on val.  [default: 0.005, and 0.01 for int8]",
)  # fmt: skip
@click.option(
    "--nms", type=click.Choice(["outside", "inside"]), default="outside", show_default=True,
    help="Where overlapping boxes are dropped: after the graph, or in it.",
)  # fmt: skip
@click.option(
    "--calibration-images", type=click.IntRange(min=1), metavar="N",
    help="With int8: images of train that the scales are measured on.  [default: 128]",
)  # fmt: skip
@click.option(
    "--accuracy-aware", is_flag=True,
    help="With int8 for openvino: keep the layers in float32 that cost most, in many passes over val.",
)  # fmt: skip
@click.option("--test", is_flag=True, help="Score test, too; the decision is that of val.")
@click.option("--wait", is_flag=True, help="Show the progress until the job has ended, then the metrics.")
def export(name: str, *, version: str, wait: bool, **settings: Any) -> int:
    """Export a VERSION (a number or alias) to another runtime as a job, and print the id of the job.

    The export is evaluated on the val data of the version; only one whose metrics fall by at most --max-drop is served.
    """
    # An earlier server does not know the settings that are not used.
    request = {field: value for field, value in settings.items() if value is not None and value is not False}
    with ModelsClient() as client:
        job = client.export(name, client.number_of(name, version), request)
        print(job.id, flush=True)
        if not wait:
            return ExitCode.DONE
        code = wait_for_end(client, job.id)
        if code == ExitCode.DONE and not client.results(job.id)["export"]["servable"]:
            return ExitCode.FAILED
        return code


@click.command(cls=ClientCommand)
@click.argument("name")
@click.argument("version")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_exports(name: str, *, version: str, as_json: bool) -> int:
    """List the exports of a VERSION (a number or alias) with their metrics and times."""
    with ModelsClient() as client:
        found = client.exports(name, client.number_of(name, version))
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        terminal_console().print(exports_table(found.exports))
    return 0
