"""Which default weights there are, and what their licenses ask for. Torch-free."""

from backbones.catalog.lookup import UNKNOWN, TagsByLicense, known_networks
from backbones.catalog.row import BackboneRow

PERMISSIVE = frozenset({"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0"})
"""Licenses of weights that ask for no more than that their authors are named."""

RANDOM_OR_FILE = "write `weights: none` to start at random, or the path of a local file"
"""What to write where there are no default weights."""


def lack_of_weights(row: BackboneRow) -> str | None:
    """Return why nobody has default weights of `row`, and what to write instead; None if its library has some."""
    known, _ = _weights(row)
    return None if any(known.values()) else f"backbone {row.name!r} has no default weights; {RANDOM_OR_FILE}"


def license_of(row: BackboneRow) -> str | None:
    """Return the license of the default weights of `row`; None where there are none, or where it is not known."""
    if row.weights_license is not None or lack_of_weights(row):
        return row.weights_license
    known, tag = _weights(row)
    license = next(license for license, tags in known.items() if not tag or tag in tags)
    return None if license == UNKNOWN else license


def license_problem(row: BackboneRow) -> str | None:
    """Return what the license of the default weights of `row` asks for that nobody has accepted, and what to write;
    None where it is permissive, or where there are no such weights."""
    license = license_of(row)
    if license in PERMISSIVE or lack_of_weights(row):
        return None
    if license is None:
        reason = "have a license that is not recorded"
    elif "-nc" in license or "noncommercial" in license:
        reason = f"are under {license}, which forbids commercial use"
    else:
        reason = f"are under {license}, which has terms of its own"
    remedies = ["`accept_license: true` where that suits you", *_permissive_twin(row), "`weights: none`"]
    return f"the default weights of backbone {row.name!r} {reason}; write {', or '.join(remedies)}"


def _permissive_twin(row: BackboneRow) -> list[str]:
    """Return what to write for weights of the same network under a permissive license, where there are some."""
    if row.source != "timm":
        return []
    known, _ = _weights(row)
    name = row.id.partition(".")[0]
    return [f"`name: timm:{name}.{tags[0]}` ({license})" for license, tags in known.items() if license in PERMISSIVE][
        :1
    ]


def _weights(row: BackboneRow) -> tuple[TagsByLicense, str]:
    """Return the weights that the library has of the network, and the tag that the row asks for ("": the default)."""
    if not row.has_default_weights:
        return {}, ""
    name, _, tag = row.id.partition(".")
    return known_networks()[row.source][name], tag
