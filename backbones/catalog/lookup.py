"""What a name means (torch-free): a row of the catalog, or any other network of timm or torchvision."""

import difflib
import json
from functools import cache
from pathlib import Path

from backbones.catalog.row import BackboneRow, Source
from backbones.catalog.rows import CATALOG
from backbones.spec.design import DesignSpec
from backbones.spec.surgery import Operation

NAMES_PATH = Path(__file__).with_name("names.json")

TagsByLicense = dict[str, list[str]]
"""The tags of a library's weights for one network, by license; the first of all is that of the default weights."""

UNKNOWN = "unknown"
"""In the place of a license that a library does not tell."""


@cache
def known_networks() -> dict[Source, dict[str, TagsByLicense]]:
    """Return every network of timm and of torchvision, for the versions that `names.json` was made with."""
    recorded = json.loads(NAMES_PATH.read_text(encoding="utf-8"))
    return {"timm": recorded["timm"]["networks"], "tv": recorded["tv"]["networks"]}


@cache
def known_names() -> dict[Source, frozenset[str]]:
    """Return every name of timm and of torchvision, for the versions that `names.json` was made with."""
    return {source: frozenset(networks) for source, networks in known_networks().items()}


def resolve(network: str | DesignSpec) -> BackboneRow:
    """Return the row of a network: a row of the catalog, else a network of timm, else one of torchvision.

    `timm:` and `tv:` pick the library; a timm name may carry the tag of its weights behind a dot.

    Raises:
        ValueError: nothing has this name; the message has the nearest names.
    """
    if isinstance(network, DesignSpec):
        takes: frozenset[Operation] = frozenset({"freeze_batchnorm"} if network.norm == "bn" else ())
        return BackboneRow(
            network.label, "design", network.label, "Design space", kwargs={"design": network}, takes=takes
        )
    name = network
    if name in CATALOG:
        return CATALOG[name]
    prefix, colon, bare = name.rpartition(":")
    if colon and prefix not in known_names():
        raise ValueError(f"backbone {name!r}: got the library {prefix!r}; choose 'timm' or 'tv', or leave it out")
    for source, names in known_names().items():
        library_name = bare.partition(".")[0] if source == "timm" else bare
        if library_name in names and prefix in ("", source):
            _require_tag(name, source, bare)
            return BackboneRow(name, source, bare)
    raise ValueError(_unknown(name, prefix, bare))


def _require_tag(name: str, source: Source, bare: str) -> None:
    network, dot, tag = bare.partition(".")
    tags = [tag for tags in known_networks()[source][network].values() for tag in tags]
    if dot and tag not in tags:
        raise ValueError(f"backbone {name!r}: got the tag {tag!r}; {network} has {', '.join(tags) or 'none'}")


def _unknown(name: str, prefix: str, bare: str) -> str:
    names = {source: sorted(names) for source, names in known_names().items() if prefix in ("", source)}
    lower = bare.lower()
    nearest = [] if prefix else difflib.get_close_matches(lower, CATALOG, n=3)
    for source, candidates in names.items():
        close = difflib.get_close_matches(lower, candidates, n=3)
        nearest += [f"{source}:{match}" if prefix else match for match in close]
    nearest = list(dict.fromkeys(nearest))[:3]
    hint = f"; did you mean {' or '.join(repr(match) for match in nearest)}?" if nearest else "."
    return f"backbone {name!r} is not in the catalog{hint} 'pyramidion backbones' lists all"
