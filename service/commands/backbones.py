"""`pyramidion backbones`: the catalog, every name that is known, what is known of one, and the design space."""

import argparse
from collections.abc import Iterable, Sequence

from backbones.catalog import descriptions
from backbones.catalog.facts import facts_of
from backbones.catalog.lookup import known_names, resolve
from backbones.catalog.row import LIBRARIES, BackboneRow
from backbones.catalog.rows import CATALOG
from pipelines.errors import ConfigError, FieldProblem


def run(arguments: Sequence[str]) -> int:
    """Print what is asked for; raises ConfigError with the nearest names where a name is unknown."""
    parser = argparse.ArgumentParser(
        prog="pyramidion backbones",
        description="List the catalog's backbones, or tell what is known of one.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "name",
        nargs="?",
        help="tell what is known of this one; presets: of the design space; road: from ResNet-50 to ConvNeXt-T",
    )
    parser.add_argument("--all", action="store_true", help="list every name that a document can write")
    options = parser.parse_args(arguments[1:])
    if options.name in TABLES:
        print(TABLES[options.name]())
    elif options.name is not None:
        try:
            print(describe(resolve(options.name)))
        except ValueError as error:
            raise ConfigError(FieldProblem("", str(error))) from error
    elif options.all:
        print(all_names())
    else:
        print(catalog())
    return 0


def describe(row: BackboneRow) -> str:
    """Return a line for each thing that is known of a network."""
    return "\n".join(f"{what}: {value}" for what, value in descriptions.describe(row).items())


def catalog() -> str:
    """Return a table of the catalog's rows."""
    header = (
        "name",
        "family",
        "year",
        "paper",
        "built by",
        "parameters, M",
        "c3, c4, c5",
        "default weights",
        "trains on CPU",
    )
    names = known_names()
    footer = (
        f"Other names of timm ({len(names['timm'])}) and torchvision ({len(names['tv'])}) work too where the network\n"
        "has strides 8, 16 and 32; `pyramidion backbones --all` lists them, timm: or tv: picks the library.\n"
        "`pyramidion backbones NAME` tells all that is known of one; `presets` and `road` tell of the design space."
    )
    return f"{_columns([header, *map(_cells, CATALOG.values())])}\n\n{footer}"


def _cells(row: BackboneRow) -> tuple[str, ...]:
    facts = facts_of(row)
    measured = ("", "", "")
    if facts is not None:
        measured = (
            descriptions.millions(facts.parameters),
            ", ".join(map(str, facts.channels)),
            descriptions.yes(facts.trains_on_cpu),
        )
    parameters, channels, trains_on_cpu = measured
    return (
        row.name,
        row.family or "",
        str(row.year or ""),
        row.paper or "",
        LIBRARIES[row.source],
        parameters,
        channels,
        descriptions.weights(row),
        trains_on_cpu,
    )


def presets() -> str:
    """Return a table of the presets of the design space."""
    footer = "`backbone: {design: {preset: NAME}}` takes one; fields beside it change it."
    return f"{_columns(descriptions.presets())}\n\n{footer}"


def roadmap() -> str:
    """Return a table of the road from ResNet-50 to ConvNeXt-T."""
    footer = (
        "Giga multiply-accumulates of an image of 224x224 pixels, with a classifier for 1000 classes. A step keeps\n"
        "the changes before it; the last is the preset convnext_tiny. The paper is Liu et al. 2022, arXiv 2201.03545."
    )
    return f"{_columns(descriptions.roadmap())}\n\n{footer}"


def all_names() -> str:
    """Return every name that a document can write, one a line: the catalog's, then the libraries'."""
    libraries = known_names()
    return "\n".join(
        [*CATALOG, *(f"{source}:{name}" for source in ("timm", "tv") for name in sorted(libraries[source]))]
    )


def _columns(rows: Iterable[Sequence[str]]) -> str:
    table = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines)


TABLES = {"presets": presets, "road": roadmap, "roadmap": roadmap}
