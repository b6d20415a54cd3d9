"""Neighbors of a vector among the embeddings of a split."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.tasks.image_marks import ImageName
from pipelines.tasks.kinds import KINDS
from pipelines.tasks.stored_embeddings import StoredEmbeddings, StoredItem


def embeddings_of(embeddings: NDArray[np.float64]) -> StoredEmbeddings:
    names = [ImageName(number, "source", f"{number}.png") for number in range(len(embeddings))]
    return StoredEmbeddings([StoredItem(name, None, None, (0, 0, 1, 1)) for name in names], embeddings)


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return math.fsum(one * other) / math.sqrt(math.fsum(one * one) * math.fsum(other * other))


def test_neighbors_are_those_with_the_largest_cosine_similarity() -> None:
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(50, 8)) * generator.uniform(0.1, 100, (50, 1))
    vector = generator.normal(size=8)
    found = embeddings_of(embeddings).nearest(vector.tolist(), 5)
    similarities = [cosine(vector, row) for row in embeddings]
    nearest = sorted(range(50), key=lambda number: -similarities[number])[:5]
    assert [item.image.image_id for item, _ in found] == nearest
    np.testing.assert_allclose([value for _, value in found], [similarities[number] for number in nearest], atol=1e-6)


def test_length_of_a_vector_does_not_matter() -> None:
    stored = embeddings_of(np.array([[1.0, 0], [1, 1], [0, 0]]))
    for length in (1e-300, 1, 1e300):
        found = stored.nearest([length, length], 3)
        assert [item.image.image_id for item, _ in found] == [1, 0, 2]
        np.testing.assert_allclose([value for _, value in found], [1, math.sqrt(0.5), 0], atol=1e-6)


def test_equally_similar_items_keep_their_order() -> None:
    found = embeddings_of(np.ones((4, 2))).nearest([1, 1], 3)
    assert [item.image.image_id for item, _ in found] == [0, 1, 2]


@pytest.mark.parametrize(
    ("vector", "message"),
    [([1.0], "got 1 values; the embeddings of the task have 2"), ([0.0, 0.0], "only zeros")],
)
def test_vector_that_cannot_be_compared_is_refused(vector: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embeddings_of(np.ones((4, 2))).nearest(vector, 3)


def test_embeddings_that_are_not_finite_are_far_from_everything() -> None:
    found = embeddings_of(np.array([[np.nan, 1], [np.inf, 0], [1, 0]])).nearest([1, 0], 3)
    assert [(item.image.image_id, value) for item, value in found] == [(2, 1), (0, 0), (1, 0)]


@pytest.mark.parametrize("shape", [(2, 4), (4, 4), (3,)])
def test_other_numbers_of_embeddings_than_items_are_refused(shape: tuple[int, ...]) -> None:
    items = embeddings_of(np.ones((3, 4))).items
    with pytest.raises(ValueError, match="3 items need"):
        StoredEmbeddings(items, np.ones(shape))


def test_split_without_items_has_no_neighbors() -> None:
    assert embeddings_of(np.zeros((0, 4))).nearest([1, 2], 3) == []


def test_files_of_earlier_versions_are_refused_with_a_remedy(tmp_path: Path) -> None:
    np.savez(tmp_path / "old.npz", embedding=np.ones((1, 2)), image_id=np.ones(1), file_name=np.array(["a"]))
    with pytest.raises(ValueError, match="written by an earlier version, without the sources of images; submit"):
        KINDS["embedding"].stored_embeddings(tmp_path / "old.npz")
