"""The command `pyramidion backbones`: lists the catalog and the design space, and describes single networks."""

import click

from backbones.catalog import descriptions
from backbones.catalog.facts import facts_of
from backbones.catalog.lookup import known_names, resolve
from backbones.catalog.row import LIBRARIES, BackboneRow
from backbones.catalog.rows import CATALOG
from pipelines.base.errors import ConfigError, FieldProblem
from service.commands.columns import columns


@click.command()
@click.argument("name", required=False)
@click.option("--all", "lists_all", is_flag=True, help="List every name that documents may use.")
def backbones(name: str | None, *, lists_all: bool) -> None:
    """List the backbones of the catalog, or describe one network.

    NAME is the network to describe, or 'presets' for the presets of the design space, or 'roadmap' for the steps from
    ResNet-50 to ConvNeXt-T.
    """
    if name in TABLES:
        print(TABLES[name]())
    elif name is not None:
        try:
            print(describe(resolve(name)))
        except ValueError as error:
            raise ConfigError(FieldProblem("", str(error))) from error
    elif lists_all:
        print(all_names())
    else:
        print(catalog())


def describe(row: BackboneRow) -> str:
    """Return one line for each known property of a network."""
    return "\n".join(f"{label}: {text}" for label, text in descriptions.describe(row).items())


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
        f"Other names in timm ({len(names['timm'])}) and torchvision ({len(names['tv'])}) work if the network has\n"
        "strides 8, 16 and 32; `pyramidion backbones --all` lists them. The prefix timm: or tv: selects the library.\n"
        "`pyramidion backbones NAME` describes one network; `presets` and `roadmap` describe the design space."
    )
    return f"{columns([header, *map(_cells, CATALOG.values())])}\n\n{footer}"


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
    footer = "`backbone: {design: {preset: NAME}}` uses one; other fields of the design override it."
    return f"{columns(descriptions.presets())}\n\n{footer}"


def roadmap() -> str:
    """Return a table of the roadmap from ResNet-50 to ConvNeXt-T."""
    footer = (
        "Giga multiply-accumulates for an image of 224x224 pixels, with a classifier for 1000 classes. Each step\n"
        "keeps the changes before it; the last is the preset convnext_tiny. The paper is Liu et al. 2022, "
        "arXiv 2201.03545."
    )
    return f"{columns(descriptions.roadmap())}\n\n{footer}"


def all_names() -> str:
    """Return every name that documents may use, one per line: first the catalog's, then the libraries'."""
    libraries = known_names()
    return "\n".join(
        [*CATALOG, *(f"{source}:{name}" for source in ("timm", "tv") for name in sorted(libraries[source]))]
    )


TABLES = {"presets": presets, "road": roadmap, "roadmap": roadmap}
