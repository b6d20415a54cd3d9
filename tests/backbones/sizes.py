"""Which rows of the catalog a test takes by default, and which in `make test-slow`: told by what was measured."""

import math
from typing import Any

import pytest

from backbones.catalog.facts import facts_of
from backbones.catalog.rows import CATALOG

GIGA = 1_000_000_000


def macs_of(name: str) -> float:
    """Return the multiply-accumulates of one image of 224x224 pixels; of a row that is not measured yet, infinity."""
    facts = facts_of(CATALOG[name])
    return facts.macs if facts else math.inf


def lightest_of_families(up_to_giga_macs: float) -> list[str]:
    """Return the row of each family that takes the fewest multiply-accumulates, where it takes no more than these."""
    lightest: dict[str | None, str] = {}
    for name in sorted(CATALOG, key=macs_of):
        lightest.setdefault(CATALOG[name].family, name)
    return [name for name in CATALOG if name in lightest.values() and macs_of(name) <= up_to_giga_macs * GIGA]


def rows_by_speed(up_to_giga_macs: float, *marks: pytest.MarkDecorator) -> list[Any]:
    """Return every row as a parameter: `lightest_of_families` run by default, the others are slow.

    Args:
        up_to_giga_macs: of the light ones.
        marks: for those that are slow.
    """
    light = lightest_of_families(up_to_giga_macs)
    slow = (pytest.mark.slow, *marks)
    return [pytest.param(name, marks=() if name in light else slow, id=name) for name in CATALOG]
