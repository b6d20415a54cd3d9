"""Curves, per-class calibration and per-class confusion against scikit-learn and by hand."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from pipelines.base.records import Category
from pipelines.tasks.calibration import calibration
from pipelines.tasks.classification.tensors.charts import classification_charts
from pipelines.tasks.classification.tensors.class_curves import class_curves
from pipelines.tasks.classification.tensors.scores import MAX_CONFUSION_CLASSES, score_multiclass, score_multilabel

POINTS = np.linspace(0, 1, 21)


def categories(count: int) -> list[Category]:
    return [Category(id=10 + k, name=f"class {k}") for k in range(count)]


def random_case(seed: int, levels: int = 20) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return scores (80,) with ties, and truths (80,) that they predict a little."""
    rng = np.random.default_rng(seed)
    truths = rng.random(80) < 0.3
    return np.clip(np.round((rng.random(80) + truths * 0.4) * levels) / levels / 1.4, 0, 1), truths


@pytest.mark.parametrize("seed", range(4))
def test_curves_equal_those_of_scikit_learn(seed: int) -> None:
    scores, truths = random_case(seed)
    found = class_curves(scores, truths)
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(truths, scores))
    false_rate, true_rate, _ = metrics.roc_curve(truths, scores, drop_intermediate=False)
    assert found["recall_at_fpr"] == pytest.approx([true_rate[false_rate <= x + 1e-9].max() for x in POINTS])
    precision, recall, thresholds = metrics.precision_recall_curve(truths, scores)
    precision, recall = precision[: len(thresholds)], recall[: len(thresholds)]  # without its artificial last point
    assert found["precision_at_recall"] == pytest.approx([precision[recall >= x - 1e-9].max() for x in POINTS])


def test_perfect_scores_fill_both_curves() -> None:
    found = class_curves(np.array([0.9, 0.8, 0.1]), np.array([True, True, False]))
    assert found["roc_auc"] == 1
    assert set(found["precision_at_recall"]) == set(found["recall_at_fpr"]) == {1.0}


def test_equal_scores_give_the_diagonal() -> None:
    found = class_curves(np.full(4, 0.5), np.array([True, True, False, False]))
    assert found["roc_auc"] == 0.5
    assert found["precision_at_recall"] == [0.5] * 21
    assert found["recall_at_fpr"] == [0.0] * 20 + [1.0]


def test_curves_need_images_with_the_class_and_the_roc_curve_also_others() -> None:
    never = class_curves(np.array([0.5]), np.array([False]))
    assert (never["precision_at_recall"], never["roc_auc"]) == (None, None)
    always = class_curves(np.array([0.5]), np.array([True]))
    assert (always["precision_at_recall"], always["roc_auc"]) == ([1.0] * 21, None)


def test_multiclass_calibration_is_that_of_the_predicted_class() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.dirichlet(np.ones(4), 60), rng.integers(0, 4, 60)
    found = score_multiclass(categories(4), scores, labels)
    assert found["calibration"] == calibration(scores.max(axis=1), scores.argmax(axis=1) == labels)
    assert [row["ece"] for row in found["per_class"]] == [
        calibration(scores[:, k], labels == k)["ece"] for k in range(4)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_confusion_of_each_label_equals_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, truths = rng.random((40, 3)), rng.random((40, 3)) < 0.4
    found = score_multilabel(categories(3), scores, truths)
    expected = metrics.multilabel_confusion_matrix(truths, scores > 0.5).tolist()
    assert [row["confusion"] for row in found["per_class"]] == expected
    assert found["calibration"] == calibration(scores.ravel(), truths.ravel())


def test_many_classes_have_no_curves() -> None:
    count = MAX_CONFUSION_CLASSES + 1
    found = score_multiclass(categories(count), np.eye(count), np.arange(count))
    assert {row["roc_auc"] for row in found["per_class"]} == {None}
    assert found["calibration"]["ece"] == 0
    assert set(classification_charts("kind", found)) == {"calibration"}


def test_results_of_earlier_versions_are_drawn_without_the_new_charts() -> None:
    scores, truths = np.array([[0.7, 0.3], [0.2, 0.8]]), np.array([0, 1])
    result: dict[str, Any] = score_multiclass(categories(2), scores, truths)
    del result["calibration"]
    added = ("ece", "roc_auc", "precision_at_recall", "recall_at_fpr", "confusion")
    result["per_class"] = [{name: row[name] for name in row if name not in added} for row in result["per_class"]]
    assert set(classification_charts("kind", result)) == {"confusion"}
