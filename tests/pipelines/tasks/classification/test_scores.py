"""Classification scores by hand and against scikit-learn."""

import warnings

import numpy as np
import pytest

from pipelines.base.records import Category
from pipelines.tasks.classification.tensors.scores import MAX_CONFUSION_CLASSES, score_multiclass, score_multilabel

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle; it comes with mlflow")


def categories(count):
    return [Category(id=10 + k, name=f"class {k}") for k in range(count)]


def random_scores(seed, count, num_classes, *, levels=8):
    """Scores with many ties, in [0, 1]."""
    return np.random.default_rng(seed).integers(0, levels + 1, (count, num_classes)) / levels


@pytest.mark.parametrize("seed", range(4))
def test_multiclass_scores_equal_those_of_scikit_learn(seed):
    labels = np.random.default_rng(100 + seed).integers(0, 5, 60)  # of 6 classes the last is never there
    scores = random_scores(seed, 60, 6)
    scores[np.arange(60), labels] += 0.3
    scores = scores / scores.max()
    ours = score_multiclass(categories(6), scores, labels)
    predicted = scores.argmax(axis=1)
    assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # y_pred contains classes not in y_true
        assert ours["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert ours["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    ap = [metrics.average_precision_score(labels == k, scores[:, k]) for k in range(5)]
    assert ours["mAP"] == pytest.approx(np.mean(ap), abs=1e-6)
    assert [row["ap"] for row in ours["per_class"][:5]] == pytest.approx(ap, abs=1e-6)
    assert ours["per_class"][5]["ap"] is None
    assert ours["per_class"][5]["recall"] is None
    assert np.array_equal(ours["confusion_matrix"], metrics.confusion_matrix(labels, predicted, labels=range(6)))
    assert ours["top1_macro_recall"] == ours["balanced_accuracy"]


@pytest.mark.parametrize("seed", range(4))
def test_multilabel_scores_equal_those_of_scikit_learn(seed):
    truths = np.random.default_rng(100 + seed).random((60, 5)) < [0.4, 0.1, 0.6, 0.3, 0.2]
    scores = random_scores(seed, 60, 5)
    ours = score_multilabel(categories(5), scores, truths)
    positive = scores > 0.5
    assert ours["accuracy"] is None
    assert ours["macro_f1"] == pytest.approx(metrics.f1_score(truths, positive, average="macro"))
    assert ours["mAP"] == pytest.approx(metrics.average_precision_score(truths, scores, average="macro"), abs=1e-6)
    balanced = [metrics.balanced_accuracy_score(truths[:, k], positive[:, k]) for k in range(5)]
    assert ours["balanced_accuracy"] == pytest.approx(np.mean(balanced))
    single = truths.sum(axis=1) == 1
    top1 = metrics.recall_score(
        truths[single].argmax(axis=1),
        scores[single].argmax(axis=1),
        average=None,
        labels=range(5),
        zero_division=np.nan,
    )
    assert ours["top1_macro_recall"] == pytest.approx(np.nanmean(top1))
    for k, row in enumerate(ours["per_class"]):
        assert row["precision"] == pytest.approx(metrics.precision_score(truths[:, k], positive[:, k]))
        assert row["recall"] == pytest.approx(metrics.recall_score(truths[:, k], positive[:, k]))


@pytest.mark.parametrize("seed", range(4))
def test_best_thresholds_have_the_highest_f1_of_all_thresholds(seed):
    truths = np.random.default_rng(100 + seed).random((60, 5)) < [0.4, 0.1, 0.6, 0.3, 0.0]
    scores = random_scores(seed, 60, 5)
    for k, row in enumerate(score_multilabel(categories(5), scores, truths)["per_class"]):
        f1 = [metrics.f1_score(truths[:, k], scores[:, k] > level / 8, zero_division=0) for level in range(8)]
        assert row["f1_at_best"] == (pytest.approx(max(f1)) if truths[:, k].any() else None)
        if truths[:, k].any():
            at_best = scores[:, k] > row["best_threshold"]
            assert row["precision_at_best"] == pytest.approx(metrics.precision_score(truths[:, k], at_best))
            assert row["recall_at_best"] == pytest.approx(metrics.recall_score(truths[:, k], at_best))


def test_scores_of_four_images_are_those_computed_by_hand():
    scores = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.5, 0.0]])
    ours = score_multiclass(categories(3), scores, np.array([0, 0, 1, 1]))
    assert ours["confusion_matrix"] == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]  # of equal scores the first class wins
    assert ours["accuracy"] == 0.75
    assert ours["balanced_accuracy"] == 0.75  # (1 + 1/2) / 2: the third class is not there
    assert ours["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert ours["mAP"] == pytest.approx(1.0)
    second = {"category_id": 11, "label": "class 1", "support": 2, "recall": 0.5, "precision": 1.0}
    assert ours["per_class"][1] | second == ours["per_class"][1]
    undefined = ("recall", "precision", "f1", "ap", "top1_recall")
    assert all(ours["per_class"][2][name] is None for name in undefined)


def test_top1_macro_recall_takes_images_with_exactly_one_class():
    truths = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)
    scores = np.array([[0.3, 0.2, 0.1], [0.1, 0.4, 0.2], [0.1, 0.2, 0.1], [0.1, 0.1, 0.9], [0.9, 0.9, 0.9]])
    ours = score_multilabel(categories(3), scores, truths)
    assert ours["top1_macro_recall"] == 0.75  # class 0: 1 of 2, class 1: 1 of 1, class 2: no such image
    assert [row["top1_support"] for row in ours["per_class"]] == [2, 1, 0]
    assert [row["top1_recall"] for row in ours["per_class"]] == [0.5, 1.0, None]
    assert [row["support"] for row in ours["per_class"]] == [3, 2, 0]


def test_multilabel_score_of_one_half_is_not_positive():
    ours = score_multilabel(categories(1), np.array([[0.5], [0.6]]), np.array([[True], [True]]))
    assert ours["per_class"][0]["recall"] == 0.5
    assert ours["balanced_accuracy"] is None  # without negatives


@pytest.mark.parametrize("score", [score_multiclass, score_multilabel])
def test_every_number_is_undefined_without_images(score):
    truths = np.zeros(0, dtype=np.int64) if score is score_multiclass else np.zeros((0, 3), dtype=bool)
    ours = score(categories(3), np.zeros((0, 3)), truths)
    assert {ours[name] for name in ("accuracy", "balanced_accuracy", "macro_f1", "mAP", "top1_macro_recall")} == {None}
    assert [row["support"] for row in ours["per_class"]] == [0, 0, 0]


def test_confusion_matrix_of_very_many_classes_is_omitted():
    count = MAX_CONFUSION_CLASSES + 1
    ours = score_multiclass(categories(count), np.eye(count), np.arange(count))
    assert ours["confusion_matrix"] is None
    assert ours["accuracy"] == 1.0


def test_logits_are_rejected():
    with pytest.raises(ValueError, match=r"they must be in \[0, 1\]"):
        score_multilabel(categories(2), np.array([[3.0, -1.0]]), np.array([[True, False]]))


def test_average_precision_never_exceeds_1():
    for count in (1, 29, 40):
        scores = np.linspace(1, 0.5, count)[:, None]
        perfect = score_multilabel(categories(1), scores, np.ones((count, 1), dtype=bool))
        assert 1 - 1e-6 < perfect["mAP"] <= 1
