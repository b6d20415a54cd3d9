"""`pyramidion weights list | fetch`: pretrained weights on this machine, and files for a machine without a network.

NAME is the name of a backbone, or of a detector as `model.init_from` writes it (`tv:retinanet_resnet50_fpn`).
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from backbones.catalog.licenses import license_problem
from backbones.catalog.lookup import resolve
from backbones.weights_sources.base import WeightsSource, sha256_of
from backbones.weights_sources.defaults import DETECTOR_PREFIX, named_sources, sources_of
from backbones.weights_sources.rows import DETECTORS
from pipelines.base.errors import ConfigError, FieldProblem
from service.commands.columns import columns

_MEGABYTE = 1e6


@click.command("list")
@click.argument("names", metavar="NAME", nargs=-1)
@click.option("--here", "only_here", is_flag=True, help="List only files that are on this machine.")
def list_weights(names: Sequence[str], *, only_here: bool) -> None:
    """List pretrained weights: where they come from, their license, and the file if it is on this machine.

    NAME is a backbone or a detector; the default is the whole catalog. Sources of one name are tried in their order.
    """
    found = {name: _sources(name) for name in names} if names else named_sources()
    rows = [_row(name, source) for name, sources in found.items() for source in sources]
    header = ("name", "source", "license", "size, MB", "on this machine")
    print(columns([header, *(row for row in rows if row[-1] or not only_here)]))


@click.command()
@click.argument("name")
@click.option(
    "--to", "folder", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the file, such as a weights root.",
)  # fmt: skip
@click.option("--accept-license", is_flag=True, help="Fetch weights whose license is not permissive, too.")
def fetch(name: str, *, folder: Path, accept_license: bool) -> None:
    """Write the pretrained weights of NAME to a folder, for a machine without a network.

    NAME is a backbone or a detector. A file that is on this machine is copied, otherwise it is downloaded; its checksum
    is verified. A document uses the file by its name.
    """
    sources = _sources(name)
    is_detector = sources == (DETECTORS.get(name.removeprefix(DETECTOR_PREFIX)),)
    if not is_detector and not accept_license and (problem := license_problem(resolve(name))):
        raise ConfigError(FieldProblem("--accept-license", f"missing; {problem.partition('; write ')[0]}"))
    source, path = _first_available(name, sources, folder)
    field = "model.init_from" if is_detector else "model.backbone.weights"
    print(f"{path} ({_megabytes(path)} MB, license {source.license or 'not recorded'}, SHA-256 {sha256_of(path)})")
    print(f"from {source.origin}")
    print(f"use it with: --{field} {shlex.quote(path.name)} --weights-root {shlex.quote(str(folder))}")


def _sources(name: str) -> tuple[WeightsSource, ...]:
    if name.startswith("models:"):
        raise ConfigError(FieldProblem("", f"got {name!r}; 'pyramidion models download' downloads registered models"))
    try:
        return sources_of(name)
    except ValueError as error:
        raise ConfigError(FieldProblem("", str(error))) from error


def _first_available(name: str, sources: Sequence[WeightsSource], folder: Path) -> tuple[WeightsSource, Path]:
    """Write the file of the first source that is available; those on this machine come first."""
    problems = []
    for source in sorted(sources, key=lambda source: source.path() is None):
        try:
            return source, source.fetch(folder)
        except ValueError as error:
            problems.append(str(error))
        except OSError as error:
            raise ConfigError(FieldProblem("--to", f"cannot write to {folder}: {error.strerror or error}")) from error
    raise ConfigError(FieldProblem("", f"the weights of {name} are not available: {'; '.join(problems)}"))


def _row(name: str, source: WeightsSource) -> tuple[str, ...]:
    path = source.path()
    size = _megabytes(path) if path else ""
    return name, source.origin, source.license or "not recorded", size, str(path or "")


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / _MEGABYTE:.1f}"
