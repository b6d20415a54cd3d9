"""Resolution of backbone names: catalog rows, and all other networks in timm and torchvision. Torch-free."""

import difflib
import json
from functools import cache
from pathlib import Path
from typing import Any

from backbones.catalog.row import BackboneRow, Source
from backbones.catalog.rows import CATALOG
from backbones.spec.design import DesignSpec
from backbones.spec.surgery import Operation

NAMES_PATH = Path(__file__).with_name("names.json")

TagsByLicense = dict[str, list[str]]
"""The tags of a library's weights for one network, by license; the first tag of all is that of the default weights."""

UNKNOWN = "unknown"
"""Stands for a license that the library does not state."""


@cache
def _recorded() -> dict[Source, dict[str, Any]]:
    recorded: dict[Source, dict[str, Any]] = json.loads(NAMES_PATH.read_text(encoding="utf-8"))
    return recorded


@cache
def known_networks() -> dict[Source, dict[str, TagsByLicense]]:
    """Return every network in timm and torchvision, for the versions that `names.json` was created with."""
    return {source: library["networks"] for source, library in _recorded().items()}


def known_files() -> dict[Source, dict[str, str]]:
    """Return where the libraries have their weights: a URL, or a repository of the Hugging Face Hub.

    torchvision's are by network. timm's are by network and tag, and only those that `measured.names` does not derive
    from the name.
    """
    return {source: library["files"] for source, library in _recorded().items()}


@cache
def known_names() -> dict[Source, frozenset[str]]:
    """Return every network name in timm and torchvision, for the versions that `names.json` was created with."""
    return {source: frozenset(networks) for source, networks in known_networks().items()}


def resolve(network: str | DesignSpec) -> BackboneRow:
    """Return the row of a network: a catalog row, otherwise one for a network in timm, otherwise in torchvision.

    The prefixes `timm:` and `tv:` select the library. A timm name may end with a dot and the tag of its weights.

    Raises:
        ValueError: the name is unknown; the message suggests similar names.
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
        raise ValueError(f"backbone {name!r}: unknown library {prefix!r}; choose 'timm' or 'tv', or remove the prefix")
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
        available = f"choose from {', '.join(tags)}" if tags else f"{network} has no tags: remove it"
        raise ValueError(f"backbone {name!r}: unknown tag {tag!r}; {available}")


def _unknown(name: str, prefix: str, bare: str) -> str:
    names = {source: sorted(names) for source, names in known_names().items() if prefix in ("", source)}
    lower = bare.lower()
    nearest = [] if prefix else difflib.get_close_matches(lower, CATALOG, n=3)
    for source, candidates in names.items():
        close = difflib.get_close_matches(lower, candidates, n=3)
        nearest += [f"{source}:{match}" if prefix else match for match in close]
    nearest = list(dict.fromkeys(nearest))[:3]
    hint = f"; did you mean {' or '.join(repr(match) for match in nearest)}?" if nearest else "."
    return f"backbone {name!r} is not in the catalog{hint} Run 'pyramidion backbones' for the list"
