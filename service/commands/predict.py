"""`pyramidion predict`: with a run folder this process becomes the trainer; with a model it calls a service."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.paths import IMAGE_SUFFIXES
from service.child_process import become
from service.client.client import Client
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
@click.option("--model", metavar="NAME[@ALIAS]", help=f"Model of the service.  [default alias: {DEFAULT_ALIAS}]")
@click.option(
    "--draw", "pictures_dir", type=click.Path(path_type=Path), metavar="DIR", help="Write pictures with boxes here."
)
@click.option("--run-dir", metavar="DIR", help="Run folder. `--run-dir DIR --help` lists the options of this form.")
def predict(images: Sequence[Path], *, model: str | None, pictures_dir: Path | None, run_dir: None) -> int:
    """Predict images with a registered model of a service, or with the best checkpoint of a run folder.

    IMAGE is an image file, or a folder with image files. Prints a JSON list of {"file", "image", "tasks"}.
    """
    if model is None:
        raise click.UsageError("pass --run-dir DIR (a run folder) or --model NAME[@ALIAS] (a model of a service)")
    if not images:
        raise click.UsageError("IMAGE is missing; pass image files or folders with image files")
    name, _, alias = model.partition("@")
    alias = alias or DEFAULT_ALIAS
    files = [file for image in images for file in _files(image)]
    with Client() as client:
        rows = [{"file": str(file), **client.predict(name, alias, file)} for file in files]
        print(json.dumps(rows, indent=1))
        sys.stdout.flush()
        if pictures_dir is not None:
            pictures_dir.mkdir(parents=True, exist_ok=True)
            for number, file in enumerate(files):
                target = pictures_dir / f"{number:04d}_{file.stem}.png"
                target.write_bytes(client.draw(name, alias, file))
                print(target, file=sys.stderr)
    return 0


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(FieldProblem(str(path), f"contains no images ({', '.join(sorted(IMAGE_SUFFIXES))})"))
    return found
