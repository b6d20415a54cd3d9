"""`pyramidion predict`: with a run folder it becomes the trainer's process, with a model it asks a service."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import DataError, FieldProblem
from pipelines.paths import IMAGE_SUFFIXES
from service.child_process import become
from service.client.client import URL_VARIABLE, Client

DEFAULT_ALIAS = "champion"
USAGE_ERROR = 2


def run(arguments: Sequence[str]) -> int:
    """Print what a service's model sees in images, and return 0; with `--run-dir` this does not return."""
    has_run_dir, has_model = (
        any(word.partition("=")[0].replace("_", "-") == option for word in arguments)
        for option in ("--run-dir", "--model")
    )
    parser = _parser()
    if has_run_dir and has_model:
        return _refuse("got both --run-dir and --model; name the run folder, or the service's model")
    if has_run_dir:
        become("pipelines.cli", arguments)
    options = parser.parse_args(arguments[1:])
    if not has_model:
        return _refuse("name --run-dir DIR (a run folder), or --model NAME[@ALIAS] (of a service)")
    if not options.images:
        return _refuse("got no image; name image files, or folders of them")
    name, _, alias = options.model.partition("@")
    return _predict(name, alias or DEFAULT_ALIAS, options.images, options.draw)


def _refuse(text: str) -> int:
    print(f"pyramidion predict: {text}", file=sys.stderr)
    return USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyramidion predict",
        usage="pyramidion predict --model NAME[@ALIAS] IMAGE... [--draw DIR]\n"
        "       pyramidion predict --run-dir DIR ... (`--run-dir DIR --help` tells more)",
        description=f"Print what a model of the service at {URL_VARIABLE} sees in images, as a JSON list of "
        '{"file", "image", "tasks"}; or answer with the best checkpoint of a run folder.',
        allow_abbrev=False,
    )
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--model", metavar="NAME[@ALIAS]", help=f"of the service; default alias: {DEFAULT_ALIAS}")
    parser.add_argument("--draw", type=Path, metavar="DIR", help="write pictures with boxes there")
    parser.add_argument("--run-dir", metavar="DIR", help="of a run that has a checkpoint")
    return parser


def _predict(model: str, alias: str, images: Sequence[Path], pictures_dir: Path | None) -> int:
    files = [file for image in images for file in _files(image)]
    with Client() as client:
        rows = [{"file": str(file), **client.predict(model, alias, file)} for file in files]
        print(json.dumps(rows, indent=1))
        sys.stdout.flush()
        if pictures_dir is not None:
            pictures_dir.mkdir(parents=True, exist_ok=True)
            for number, file in enumerate(files):
                target = pictures_dir / f"{number:04d}_{file.stem}.png"
                target.write_bytes(client.draw(model, alias, file))
                print(target, file=sys.stderr)
    return 0


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(FieldProblem(str(path), f"holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})"))
    return found
