"""Availability and licenses of default weights. Torch-free."""

from backbones.catalog.lookup import UNKNOWN, TagsByLicense, known_networks
from backbones.catalog.row import BackboneRow

PERMISSIVE = frozenset({"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0"})
"""Licenses that require nothing but attribution."""

RANDOM_OR_FILE = "write `weights: none` to start from random weights, or the path of a local file"
"""Advice for networks without default weights."""


def lack_of_weights(row: BackboneRow) -> str | None:
    """Return a message that `row` has no default weights, with a remedy; None if it has default weights."""
    known, _ = _weights(row)
    return None if any(known.values()) else f"backbone {row.name!r} has no default weights; {RANDOM_OR_FILE}"


def license_of(row: BackboneRow) -> str | None:
    """Return the license of the default weights of `row`; None if it is unknown or there are no such weights."""
    if row.weights_license is not None or lack_of_weights(row):
        return row.weights_license
    known, tag = _weights(row)
    license = next(license for license, tags in known.items() if not tag or tag in tags)
    return None if license == UNKNOWN else license


def license_problem(row: BackboneRow) -> str | None:
    """Return a message that the license of the default weights of `row` must be accepted, with remedies.

    The result is None if the license is permissive, or if the network has no default weights.
    """
    license = license_of(row)
    if license in PERMISSIVE or lack_of_weights(row):
        return None
    if license is None:
        reason = "have a license that is not recorded"
    elif "-nc" in license or "noncommercial" in license:
        reason = f"are under {license}, which forbids commercial use"
    else:
        reason = f"are under {license}, which is not a standard permissive license"
    remedies = ["`accept_license: true` if you accept that", *_permissive_alternative(row), "`weights: none`"]
    return f"the default weights of backbone {row.name!r} {reason}; write {', or '.join(remedies)}"


def _permissive_alternative(row: BackboneRow) -> list[str]:
    """Return the settings for permissively licensed weights of the same network; empty if there are none."""
    if row.source != "timm":
        return []
    known, _ = _weights(row)
    name = row.id.partition(".")[0]
    return [f"`name: timm:{name}.{tags[0]}` ({license})" for license, tags in known.items() if license in PERMISSIVE][
        :1
    ]


def _weights(row: BackboneRow) -> tuple[TagsByLicense, str]:
    """Return the library's weights of the network, and the tag that the row names ("" for the default)."""
    if not row.has_default_weights:
        return {}, ""
    name, _, tag = row.id.partition(".")
    return known_networks()[row.source][name], tag
