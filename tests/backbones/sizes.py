"""Selection of catalog rows for the default tests and for `make test-slow`, by their multiply-accumulates."""

import math
from typing import Any

import pytest

from backbones.catalog.facts import facts_of
from backbones.catalog.rows import CATALOG

GIGA = 1_000_000_000


def macs_of(name: str) -> float:
    """Return the multiply-accumulates for one image of 224x224 pixels; infinity for rows that are not measured yet."""
    facts = facts_of(CATALOG[name])
    return facts.macs if facts else math.inf


def lightest_of_families(up_to_giga_macs: float) -> list[str]:
    """Return the row of each family with the fewest multiply-accumulates, if it has at most `up_to_giga_macs`."""
    lightest: dict[str | None, str] = {}
    for name in sorted(CATALOG, key=macs_of):
        lightest.setdefault(CATALOG[name].family, name)
    return [name for name in CATALOG if name in lightest.values() and macs_of(name) <= up_to_giga_macs * GIGA]


def rows_by_speed(up_to_giga_macs: float, *marks: pytest.MarkDecorator) -> list[Any]:
    """Return every row as a parameter: `lightest_of_families` run by default, the others are slow tests.

    Args:
        up_to_giga_macs: maximum multiply-accumulates of default rows.
        marks: additional marks of the slow rows.
    """
    light = lightest_of_families(up_to_giga_macs)
    slow = (pytest.mark.slow, *marks)
    return [pytest.param(name, marks=() if name in light else slow, id=name) for name in CATALOG]
