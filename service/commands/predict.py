"""`pyramidion predict`: with a run folder this process becomes the trainer; with a model it calls a service."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pipelines.base.clock import folder_timestamp
from pipelines.base.errors import ConfigError
from pipelines.base.pictures import picture_name
from pipelines.base.printable import printable
from pipelines.command_line.predicted_images import find_images, pictures_folder, print_rows, raise_problems
from pipelines.tasks.thresholds import threshold_option
from service.child_process import become
from service.client.client import Client
from service.client.predictions import predict_images
from service.commands.client_command import ClientCommand

DEFAULT_ALIAS = "champion"
RUN_DIR = ("--run-dir", "--run_dir")


class PredictCommand(ClientCommand):
    """Passes the whole command line to the trainer's `predict` if it contains a run folder."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names = {word.partition("=")[0] for word in args}
        if names & set(RUN_DIR):
            if "--model" in names:
                ctx.fail("got both --run-dir and --model; pass either a run folder or a registered model")
            become("pipelines.cli", [*ctx.command_path.split()[1:], *args])
        return super().parse_args(ctx, args)


@click.command(cls=PredictCommand)
@click.argument("images", nargs=-1, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--images", "old_images", multiple=True, type=click.Path(path_type=Path), hidden=True)
@click.option("--model", metavar="NAME[@ALIAS]", help=f"Model of the service.  [default alias: {DEFAULT_ALIAS}]")
@click.option(
    "--draw",
    is_flag=False,
    flag_value="",
    metavar="[DIR]",
    help="Write pictures with boxes here.  [default: runs/predict-TIME, or a folder in the run folder]",
)
@click.option(
    "--threshold",
    metavar="best|NUMBER",
    help="Predict only what has a score above it. best: the threshold of each class with the highest F1 on val.",
)
@click.option("--class", "classes", multiple=True, metavar="NAME", help="Predict only this class; repeatable.")
@click.option("--run-dir", metavar="DIR", help="Run folder. `--run-dir DIR --help` lists the options of this form.")
def predict(
    images: Sequence[Path],
    *,
    old_images: Sequence[Path],
    model: str | None,
    draw: str | None,
    threshold: str | None,
    classes: Sequence[str],
    run_dir: None,
) -> int:
    """Predict images with a registered model of a service, or with the best checkpoint of a run folder.

    IMAGE is an image file, or a folder with image files. Prints a JSON list of {"file", "image", "tasks"}, and
    "warnings" where a damaged file was read. For an image that cannot be read it prints an error line, predicts the
    others, and ends with the exit code 78.
    """
    if model is None:
        raise click.UsageError("pass --run-dir DIR (a run folder) or --model NAME[@ALIAS] (a model of a service)")
    if not images and not old_images:
        raise click.UsageError("IMAGE is missing; pass image files or folders with image files")
    name, _, alias = model.partition("@")
    limit = threshold_option(threshold)
    query: dict[str, Any] = {"alias": alias or DEFAULT_ALIAS}
    query |= {} if limit is None else {"threshold": str(limit)}
    query |= {"classes": list(classes)} if classes else {}
    folder = pictures_folder(draw, Path("runs") / f"predict-{folder_timestamp()}")
    files, problems = find_images([*images, *old_images])
    rows: dict[Path, dict[str, Any]] = {}
    with Client() as client:
        for file, answer in predict_images(client, name, query, files):
            if isinstance(answer, ConfigError):
                problems += answer.problems
            else:
                rows[file] = {"file": printable(str(file)), **answer}
        print_rows(list(rows.values()))
        if folder is not None and rows:
            folder.mkdir(parents=True, exist_ok=True)
            for number, file in enumerate(rows):
                target = folder / picture_name(f"{number:04d}", str(file))
                target.write_bytes(client.draw(name, image=file, **query))
                print(target, file=sys.stderr)
    raise_problems(problems)
    return 0
