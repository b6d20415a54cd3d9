"""Retrieval scores by hand and against a plain search."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from pipelines.tasks.embedding import retrieval
from pipelines.tasks.embedding.retrieval import NamedEmbeddings, score_retrieval
from pipelines.tasks.kinds import KINDS


def named(rows, identities):
    return NamedEmbeddings(np.array(rows, dtype=np.float32), np.array(identities, dtype=np.str_))


def random_named(seed, count, num_identities, dim=4):
    """Identities of very different size around centers; some embeddings occur twice and are exact ties."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(num_identities, 0.5))
    codes = rng.choice(num_identities, count, p=share)
    rows = rng.normal(0, 1, (num_identities, dim))[codes] + rng.normal(0, 0.7, (count, dim))
    rows[count // 2 : count // 2 + 5] = rows[:5]
    return named(rows * rng.uniform(0.1, 9, (count, 1)), [f"identity {code}" for code in codes])


def plain_search(queries, gallery=None):
    """Scores of one query at a time with a full sort of Python tuples."""
    items = queries if gallery is None else gallery
    units = [e.embeddings.astype(np.float64) for e in (queries, items)]
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in units]
    hits, precisions, shares, first = {}, [], [], []
    for q, identity in enumerate(queries.identities):
        order = sorted(
            (round(float(1 - units[0][q] @ units[1][g]) * 1e6), g)
            for g in range(len(items))
            if gallery is not None or g != q
        )
        relevant = [items.identities[g] == identity for _, g in order]
        if wanted := sum(relevant):
            hits.setdefault(str(identity), []).append(relevant[0])
            first.append(relevant.index(True))
            shares.append(sum(relevant[:wanted]) / wanted)
            precisions.append(sum(sum(relevant[: i + 1]) / (i + 1) for i in range(wanted) if relevant[i]) / wanted)
    every = [hit for hit_list in hits.values() for hit in hit_list]
    return {
        "num_queries": len(every),
        "recall_at_1": np.mean(every),
        "recall_at_5": np.mean([position < 5 for position in first]),
        "recall_at_10": np.mean([position < 10 for position in first]),
        "r_precision": np.mean(shares),
        "map_at_r": np.mean(precisions),
        "per_class": {identity: (len(found), np.mean(found)) for identity, found in hits.items()},
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("has_gallery", [False, True])
@pytest.mark.parametrize("cells", [1, 1000, 2**22])
def test_scores_equal_those_of_a_plain_search_for_any_size_of_chunks(seed, has_gallery, cells, monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK_CELLS", cells)
    queries = random_named(seed, 60, 9)
    gallery = random_named(seed + 100, 80, 9) if has_gallery else None
    ours = score_retrieval(queries, gallery, min_queries=3)
    oracle = plain_search(queries, gallery)
    assert ours["num_queries"] == oracle["num_queries"]
    assert ours["num_left_out"] == 60 - oracle["num_queries"]
    assert ours["num_gallery"] == (80 if has_gallery else 60)
    for metric in ("recall_at_1", "recall_at_5", "recall_at_10", "r_precision", "map_at_r"):
        assert ours[metric] == pytest.approx(oracle[metric], abs=1e-9)
    rows = {row["identity"]: (row["support"], row["recall_at_1"]) for row in ours["per_class"]}
    assert rows.keys() == oracle["per_class"].keys()
    assert all(rows[i] == pytest.approx(oracle["per_class"][i]) for i in rows)
    often = [recall for support, recall in oracle["per_class"].values() if support >= 3]
    assert ours["macro_recall_at_1"] == pytest.approx(np.mean(often))


@pytest.mark.parametrize("has_gallery", [False, True])
def test_scores_are_those_of_pytorch_metric_learning(has_gallery):
    rng = np.random.default_rng(5)
    codes = rng.permutation(np.repeat(np.arange(12), 8))  # alike in size: the library looks up as many for each query
    rows = rng.normal(0, 1, (12, 5))[codes] + rng.normal(0, 0.7, (96, 5))
    split = 36 if has_gallery else 0
    labels = torch.from_numpy(codes)
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k=95 - split,
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    )
    queries, items = slice(0, split or None), slice(split, None)
    oracle = calculator.get_accuracy(
        torch.from_numpy(rows[queries]),
        labels[queries],
        torch.from_numpy(rows[items]),
        labels[items],
        ref_includes_query=not has_gallery,
    )
    ours = score_retrieval(
        named(rows[queries], codes[queries].astype(str)),
        named(rows[items], codes[items].astype(str)) if has_gallery else None,
    )
    assert ours["num_left_out"] == 0
    assert ours["recall_at_1"] == pytest.approx(oracle["precision_at_1"])
    assert ours["r_precision"] == pytest.approx(oracle["r_precision"])
    assert ours["map_at_r"] == pytest.approx(oracle["mean_average_precision_at_r"])
    assert 0.1 < ours["map_at_r"] < 0.9


def test_query_never_finds_itself():
    ours = score_retrieval(named([[1, 0], [0, 1], [1, 0.1], [0, 1]], ["a", "a", "b", "b"]), min_queries=1)
    assert ours["recall_at_1"] == 0.0
    assert ours["num_queries"] == 4
    assert ours["recall_at_5"] == ours["recall_at_10"] == 1.0  # of the three others


def test_recall_at_k_by_hand():
    """Each of five queries finds its identity at rank 1, 5, 6, 10 or 11."""
    gallery = named([[np.cos(i / 20), np.sin(i / 20)] for i in range(12)], [f"place {i + 1}" for i in range(12)])
    ours = score_retrieval(named([[1, 0]] * 5, [f"place {i}" for i in (1, 5, 6, 10, 11)]), gallery)
    assert (ours["recall_at_1"], ours["recall_at_5"], ours["recall_at_10"]) == (0.2, 0.4, 0.8)


def test_map_at_r_and_r_precision_by_hand():
    queries = named([[1, 0]], ["a"])
    gallery = named([[1, 0.1], [1, 0.2], [1, 0.3], [1, 0.4], [1, 0.5]], ["a", "b", "a", "b", "a"])
    ours = score_retrieval(queries, gallery)
    assert ours["map_at_r"] == pytest.approx((1 / 1 + 0 + 2 / 3) / 3)  # R = 3: what comes later counts for nothing
    assert ours["r_precision"] == pytest.approx(2 / 3)
    assert ours["recall_at_5"] == ours["recall_at_10"] == 1.0  # of five items
    assert ours["recall_at_1"] == 1.0
    assert ours["macro_recall_at_1"] is None  # one query is below the minimum of five
    assert ours["macro_min_queries"] == 5


def test_length_of_an_embedding_does_not_matter():
    gallery = named([[100, 90], [0.001, 0]], ["far", "near"])
    assert score_retrieval(named([[5, 0.1]], ["near"]), gallery)["recall_at_1"] == 1.0


@pytest.mark.parametrize(("first", "recall"), [("a", 1.0), ("b", 0.0)])
def test_first_of_equally_near_items_wins(first, recall):
    other = {"a": "b", "b": "a"}[first]
    gallery = named([[1, 1, 1]] * 2, [first, other])
    assert score_retrieval(named([[1, 2, 3]], ["a"]), gallery)["recall_at_1"] == recall


def test_queries_without_another_item_of_their_identity_are_counted_and_not_scored():
    ours = score_retrieval(named(np.eye(3), ["a", "b", "b"]))
    assert (ours["num_queries"], ours["num_left_out"]) == (2, 1)
    assert [row["identity"] for row in ours["per_class"]] == ["b"]


@pytest.mark.parametrize("identities", [[], ["a", "b"]])
def test_every_number_is_undefined_if_no_query_has_a_match(identities):
    ours = score_retrieval(named(np.eye(2)[: len(identities)].reshape(-1, 2), identities))
    assert {ours[metric] for metric in KINDS["embedding"].metrics} == {None}
    assert (ours["num_queries"], ours["num_left_out"], ours["per_class"]) == (0, len(identities), [])


def test_empty_gallery_leaves_every_number_undefined():
    ours = score_retrieval(named([[1, 0]], ["a"]), named(np.zeros((0, 2)), []))
    assert (ours["recall_at_1"], ours["num_left_out"]) == (None, 1)


def test_random_embedding_has_the_recall_of_chance():
    rng = np.random.default_rng(0)
    ours = score_retrieval(named(rng.normal(size=(2000, 16)), [str(i % 4) for i in range(2000)]))
    assert ours["recall_at_1"] == pytest.approx(0.25, abs=0.05)
    assert ours["map_at_r"] < 0.1
    assert ours["nmi"] < 0.05


def test_only_queries_with_a_match_are_clustered():
    """The third identity has no item in the gallery; the clusters of the others are correct."""
    queries = named([[1, 0], [5, 0.1], [0, 1], [0.1, 3], [0.1, 2.9]], ["a", "a", "b", "b", "c"])
    assert score_retrieval(queries, named(np.eye(2), ["a", "b"]))["nmi"] == pytest.approx(1.0)
