"""What all commands share: the document and its fields by dotted name, and where things lie. Torch-free."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from pipelines.data.dataset.roots import data_roots_from_environment
from pipelines.errors import ConfigError, FieldProblem
from pipelines.preflight import WEIGHTS_ROOTS_VARIABLE, Places

OVERRIDES_HELP = "Any field of the document is an option by its dotted name: --model.optimizer.lr 1e-3"


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Let the command take a document of several files."""
    parser.add_argument("--config", action="append", default=[], metavar="FILE", help="a file, or recipe:NAME")


def add_data_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Let the command be told where data lies; returns the group, for what else may be told."""
    places = parser.add_argument_group("where things lie")
    places.add_argument("--data-root", action="append", type=Path, default=[], metavar="DIR", help="may be repeated")
    places.add_argument("--data.root", dest="data_root_override", type=Path, metavar="DIR", help="any folder")
    return places


def places_of(known: argparse.Namespace) -> Places:
    """Return where names are looked up: as told, else as the environment says, else in the working directory."""
    weights = [Path(part) for part in os.environ.get(WEIGHTS_ROOTS_VARIABLE, "").split(os.pathsep) if part]
    return Places(
        data_roots=known.data_root or data_roots_from_environment(),
        weights_roots=getattr(known, "weights_root", None) or weights or [Path()],
        data_root=known.data_root_override,
        are_given=bool(known.data_root or known.data_root_override),
    )


def dotted_overrides(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, YAML text) of `--a.b value` and `--a.b=value`; raises ConfigError for anything else."""
    overrides: list[tuple[str, str]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise ConfigError(
                FieldProblem("", f"got {word!r}; fields of the document are set as --name.of.field value")
            )
        if not equals:
            if not rest:
                raise ConfigError(FieldProblem(word, "has no value"))
            value = rest.pop(0)
        overrides.append((name, value))
    return overrides
