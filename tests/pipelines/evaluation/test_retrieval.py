"""Retrieval scores by hand and against a plain search."""

import numpy as np
import pytest

from pipelines.evaluation import retrieval
from pipelines.evaluation.retrieval import NamedEmbeddings, score_retrieval


def named(rows, identities):
    return NamedEmbeddings(np.array(rows, dtype=np.float32), np.array(identities, dtype=np.str_))


def random_named(seed, count, num_identities, dim=4):
    """Identities of very different size around centres, with some embeddings there twice: exact ties."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(num_identities, 0.5))
    codes = rng.choice(num_identities, count, p=share)
    rows = rng.normal(0, 1, (num_identities, dim))[codes] + rng.normal(0, 0.7, (count, dim))
    rows[count // 2 : count // 2 + 5] = rows[:5]
    return named(rows * rng.uniform(0.1, 9, (count, 1)), [f"identity {code}" for code in codes])


def plain_search(queries, gallery=None):
    """One query at a time, a full sort of Python tuples."""
    items = queries if gallery is None else gallery
    units = [e.embeddings.astype(np.float64) for e in (queries, items)]
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in units]
    hits, precisions = {}, []
    for q, identity in enumerate(queries.identities):
        order = sorted(
            (round(float(1 - units[0][q] @ units[1][g]) * 1e6), g)
            for g in range(len(items))
            if gallery is not None or g != q
        )
        relevant = [items.identities[g] == identity for _, g in order]
        if wanted := sum(relevant):
            hits.setdefault(str(identity), []).append(relevant[0])
            precisions.append(sum(sum(relevant[: i + 1]) / (i + 1) for i in range(wanted) if relevant[i]) / wanted)
    every = [hit for hit_list in hits.values() for hit in hit_list]
    return {
        "num_queries": len(every),
        "recall_at_1": np.mean(every),
        "map_at_r": np.mean(precisions),
        "per_class": {identity: (len(found), np.mean(found)) for identity, found in hits.items()},
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("has_gallery", [False, True])
@pytest.mark.parametrize("cells", [1, 1000, 2**22])
def test_scores_equal_those_of_a_plain_search_however_the_work_is_cut(seed, has_gallery, cells, monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK_CELLS", cells)
    queries = random_named(seed, 60, 9)
    gallery = random_named(seed + 100, 80, 9) if has_gallery else None
    ours = score_retrieval(queries, gallery, min_queries=3)
    oracle = plain_search(queries, gallery)
    assert ours["num_queries"] == oracle["num_queries"]
    assert ours["num_left_out"] == 60 - oracle["num_queries"]
    assert ours["num_gallery"] == (80 if has_gallery else 60)
    assert ours["recall_at_1"] == pytest.approx(oracle["recall_at_1"], abs=1e-9)
    assert ours["map_at_r"] == pytest.approx(oracle["map_at_r"], abs=1e-9)
    rows = {row["identity"]: (row["support"], row["recall_at_1"]) for row in ours["per_class"]}
    assert rows.keys() == oracle["per_class"].keys()
    assert all(rows[i] == pytest.approx(oracle["per_class"][i]) for i in rows)
    often = [recall for support, recall in oracle["per_class"].values() if support >= 3]
    assert ours["macro_recall_at_1"] == pytest.approx(np.mean(often))


def test_a_query_never_finds_itself():
    ours = score_retrieval(named([[1, 0], [0, 1], [1, 0.1], [0, 1]], ["a", "a", "b", "b"]), min_queries=1)
    assert ours["recall_at_1"] == 0.0
    assert ours["num_queries"] == 4


def test_map_at_r_by_hand():
    queries = named([[1, 0]], ["a"])
    gallery = named([[1, 0.1], [1, 0.2], [1, 0.3], [1, 0.4], [1, 0.5]], ["a", "b", "a", "b", "a"])
    ours = score_retrieval(queries, gallery)
    assert ours["map_at_r"] == pytest.approx((1 / 1 + 0 + 2 / 3) / 3)  # R = 3: what comes later counts for nothing
    assert ours["recall_at_1"] == 1.0
    assert ours["macro_recall_at_1"] is None  # one query is below the minimum of five
    assert ours["macro_min_queries"] == 5


def test_length_of_an_embedding_does_not_matter():
    gallery = named([[100, 90], [0.001, 0]], ["far", "near"])
    assert score_retrieval(named([[5, 0.1]], ["near"]), gallery)["recall_at_1"] == 1.0


@pytest.mark.parametrize(("first", "recall"), [("a", 1.0), ("b", 0.0)])
def test_of_equally_near_items_the_first_wins(first, recall):
    other = {"a": "b", "b": "a"}[first]
    gallery = named([[1, 1, 1]] * 2, [first, other])
    assert score_retrieval(named([[1, 2, 3]], ["a"]), gallery)["recall_at_1"] == recall


def test_identities_without_another_item_are_left_out_and_counted():
    ours = score_retrieval(named(np.eye(3), ["a", "b", "b"]))
    assert (ours["num_queries"], ours["num_left_out"]) == (2, 1)
    assert [row["identity"] for row in ours["per_class"]] == ["b"]


@pytest.mark.parametrize("identities", [[], ["a", "b"]])
def test_without_a_query_that_could_be_answered_all_is_undefined(identities):
    ours = score_retrieval(named(np.eye(2)[: len(identities)].reshape(-1, 2), identities))
    assert {ours["recall_at_1"], ours["map_at_r"], ours["macro_recall_at_1"]} == {None}
    assert (ours["num_queries"], ours["num_left_out"], ours["per_class"]) == (0, len(identities), [])


def test_an_empty_gallery_answers_nothing():
    ours = score_retrieval(named([[1, 0]], ["a"]), named(np.zeros((0, 2)), []))
    assert (ours["recall_at_1"], ours["num_left_out"]) == (None, 1)


def test_a_random_embedding_recalls_by_chance():
    rng = np.random.default_rng(0)
    ours = score_retrieval(named(rng.normal(size=(2000, 16)), [str(i % 4) for i in range(2000)]))
    assert ours["recall_at_1"] == pytest.approx(0.25, abs=0.05)
    assert ours["map_at_r"] < 0.1
