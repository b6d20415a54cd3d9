"""Normalized mutual information by hand, at its limits and against plain k-means."""

import math

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import mutual_info_score

from pipelines.tasks.embedding import clustering
from pipelines.tasks.embedding.clustering import mutual_information


def entropy(codes):
    shares = np.unique(codes, return_counts=True)[1] / len(codes)
    return -(shares * np.log(shares)).sum()


def around_centers(codes, dim=16, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(codes.max() + 1, dim))[codes] + spread * rng.normal(size=(len(codes), dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_two_points_by_hand():
    """The first point has the identities 0, 0, 1 and the second one 1, 1, 1."""
    information = math.log(2) / 3 + math.log(1 / 2) / 6 + math.log(3 / 2) / 2
    entropies = (math.log(3) / 3 + math.log(3 / 2) * 2 / 3, math.log(2))
    found = mutual_information(np.eye(2)[[0, 0, 0, 1, 1, 1]], np.array([0, 0, 1, 1, 1, 1]))
    assert found == pytest.approx(2 * information / sum(entropies))


@pytest.mark.parametrize("num_identities", [3, 250])
def test_identities_far_apart_give_one_for_any_number_of_rows(num_identities):
    codes = np.random.default_rng(0).permutation(np.repeat(np.arange(num_identities), 4))
    rows = around_centers(codes, dim=64, spread=0.01)
    assert mutual_information(rows, codes) == pytest.approx(1.0, abs=0.03)
    assert mutual_information(rows, codes * 7 + 100) == mutual_information(rows, codes)


@pytest.mark.parametrize("seed", range(4))
def test_overlapping_identities_are_clustered_as_well_as_with_many_starts(seed):
    codes = np.repeat(np.arange(8), 25)
    rows = around_centers(codes, spread=0.8, seed=seed)
    clusters = KMeans(8, n_init=20, random_state=1).fit_predict(rows)
    oracle = 2 * mutual_info_score(codes, clusters) / (entropy(codes) + entropy(clusters))
    assert oracle > 0.9
    assert mutual_information(rows, codes) == pytest.approx(oracle, abs=0.05)


def test_equal_embeddings_give_zero():
    assert mutual_information(np.ones((9, 4)) / 2, np.repeat(np.arange(3), 3)) == 0.0
    assert mutual_information(np.zeros((9, 4)), np.repeat(np.arange(3), 3)) == 0.0


@pytest.mark.parametrize("codes", [[], [0], [4, 4, 4], [0, 1], [2, 0, 1]])
def test_identities_for_which_any_clustering_is_correct_are_undefined(codes):
    assert mutual_information(np.eye(3)[: len(codes)], np.array(codes, dtype=np.int64)) is None


def test_same_rows_are_chosen_from_many_in_every_call(monkeypatch):
    monkeypatch.setattr(clustering, "MAX_ROWS", 200)
    codes = np.repeat(np.arange(10), 100)
    rows = around_centers(codes, spread=0.8)
    found = mutual_information(rows, codes)
    assert found == mutual_information(rows, codes)
    monkeypatch.undo()
    assert found == pytest.approx(mutual_information(rows, codes), abs=0.15)
