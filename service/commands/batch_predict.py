"""`pyramidion batch-predict`: predict all images of a folder, a data set or an upload with a model, as a job."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.paths import IMAGE_SUFFIXES
from pipelines.command_line.predicted_images import find_images, raise_problems
from pipelines.tasks.thresholds import threshold_option
from service.client.archives import packed
from service.client.client import Client
from service.client.downloads import download_predictions
from service.client.predictions import batch_predict_images
from service.commands.client_command import ClientCommand, requested_resources
from service.commands.upload_progress import upload_progress
from service.commands.waiting import EXIT_CODES_OF_WAIT, wait_for_end
from service.rest.schemas import JobView

EPILOG = f"With --wait or --output: {EXIT_CODES_OF_WAIT}"


@click.command("batch-predict", cls=ClientCommand, epilog=EPILOG)
@click.argument("model", metavar="MODEL[@ALIAS]")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="Version of the model, instead of an alias.")
@click.option("--folder", metavar="DIR", help="Folder of images, relative to a data root of the service.")
@click.option("--dataset", metavar="NAME@VERSION", help="Version of a data set; --folder is below its files then.")
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="Folder, image file, or zip or tar file of this machine, which is uploaded and deleted with the job.",
)
@click.option(
    "--threshold", metavar="best|NUMBER", help="Keep only what has a score above it; best: the best one of each class."
)
@click.option("--class", "classes", multiple=True, metavar="NAME", help="Keep only this class; repeatable.")
@click.option(
    "--on-error",
    type=click.Choice(["skip", "fail"]),
    help="Whether an image that cannot be read is listed, or ends the job.  [default: skip]",
)
@click.option("--name", help="Name of the job.  [default: the name of the model]")
@click.option("--priority", type=int, default=0, show_default=True, help="Jobs with a higher priority start earlier.")
@click.option("--cpus", type=int, help="CPU cores of the job.  [default: set by the server]")
@click.option("--gpus", type=int, help="Number of GPUs.  [default: set by the server]")
@click.option("--timeout", type=float, metavar="S", help="Maximum seconds from the start to the end of the job.")
@click.option("--wait", is_flag=True, help="Show the progress until the job has ended, then a summary.")
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="DIR", help="Wait, and then download the results to DIR."
)
def batch_predict(
    model: str,
    *,
    images: Path | None,
    threshold: str | None,
    classes: Sequence[str],
    priority: int,
    cpus: int | None,
    gpus: int | None,
    timeout: float | None,
    wait: bool,
    output: Path | None,
    **settings: Any,
) -> int:
    """Predict all images of a folder, a data set, or an upload as a job, and print its id.

    MODEL is a registered model; by default the version of the alias champion is used. The results are files by task:
    detections as COCO results and as a table, classes as a table, embeddings as arrays; images.csv lists all images.
    """
    if settings["folder"] is None and settings["dataset"] is None and images is None:
        raise click.UsageError(
            "pass --folder DIR (below a data root of the service), --dataset NAME@VERSION, or --images PATH"
        )
    if settings["dataset"] is not None and images is not None:
        raise click.UsageError("got both --dataset and --images; pass one of them")
    if output is not None and output.is_file():
        raise ConfigError(FieldProblem("--output", f"got the file {str(output)!r}; name a folder"))
    name, _, alias = model.partition("@")
    request = {
        **settings,
        "alias": alias or None,
        "threshold": threshold_option(threshold),
        "classes": list(classes) or None,
        "priority": priority,
        "resources": requested_resources(cpus, gpus, timeout),
    }
    with Client() as client:
        options = {key: value for key, value in request.items() if value is not None}
        job = client.batch_predict(name, options) if images is None else _upload(client, name, images, options)
        print(job.id, flush=True)
        if not wait and output is None:
            return 0
        code = wait_for_end(client, job.id)
        if code == 0 and output is not None:
            for path in download_predictions(client, job.id, output):
                print(path, file=sys.stderr)
        return code


def _upload(client: Client, model: str, images: Path, options: Mapping[str, Any]) -> JobView:
    """Submit a job with the images of a folder, an image file, or an archive."""
    with ExitStack() as stack:
        archive = images
        if images.is_dir() or images.suffix.lower() in IMAGE_SUFFIXES:
            files, problems = find_images([images])
            raise_problems(problems)
            archive = stack.enter_context(packed(images if images.is_dir() else images.parent, files))
        return batch_predict_images(client, model, archive, options, stack.enter_context(upload_progress(archive)))
