"""The queries that find their identity worst, by hand."""

import numpy as np
import pytest

from pipelines.tasks.embedding.retrieval import NamedEmbeddings, search
from pipelines.tasks.embedding.worst_queries import NUM_NEIGHBORS, NUM_QUERIES, worst_queries


def at(degrees: list[float], names: str) -> NamedEmbeddings:
    """Return embeddings at angles on a circle; the letters are their identities."""
    angles = np.radians(degrees)
    return NamedEmbeddings(np.column_stack([np.cos(angles), np.sin(angles)]), np.array(list(names)))


def test_worst_query_is_first_with_its_neighbors() -> None:
    # A at 0, 10 and 60 degrees, B at 50 and 55: the A at 60 degrees finds both B before its own identity.
    queries = at([0, 10, 60, 50, 55], "AAABB")
    found = worst_queries(queries, None, search(queries))
    # The two A at 0 and 10 degrees find one of two first, and then B: 1/1 / 2. The B at 55 degrees has the A at 60 and
    # the B at 50 at equal distance; the first item of the gallery is nearer.
    assert [(row.position, row.map_at_r, row.first_found) for row in found] == [
        (2, 0.0, 3),
        (4, 0.0, 2),
        (0, 0.5, 1),
        (1, 0.5, 1),
    ]
    assert found[0].neighbors == [4, 3, 1, 0]
    assert found[0].similarities == pytest.approx(np.cos(np.radians([5, 10, 50, 60])))


def test_queries_search_the_gallery_if_there_is_one() -> None:
    queries, gallery = at([0, 90], "AB"), at([5, 80, 85], "BAB")
    found = worst_queries(queries, gallery, search(queries, gallery))
    assert [(row.position, row.neighbors) for row in found] == [(0, [0, 1, 2]), (1, [2, 1, 0])]


def test_perfect_queries_and_those_without_an_item_are_not_listed() -> None:
    queries = at([0, 5, 90], "AAB")
    assert worst_queries(queries, None, search(queries)) == []
    nothing = NamedEmbeddings(np.zeros((0, 2)), np.zeros(0, dtype=np.str_))
    assert worst_queries(nothing, None, search(nothing)) == []


def test_lists_are_short() -> None:
    rng = np.random.default_rng(0)
    queries = NamedEmbeddings(rng.normal(size=(60, 3)), rng.choice(list("ABC"), 60))
    found = worst_queries(queries, None, search(queries))
    assert [len(row.neighbors) for row in found] == [NUM_NEIGHBORS] * NUM_QUERIES
    assert all(row.position not in row.neighbors for row in found)
    assert [row.map_at_r for row in found] == sorted(search(queries).precision)[:NUM_QUERIES]
