"""Images with classes, marked as right or as errors."""

import numpy as np
import pytest

from pipelines.tasks.classification.class_table import ClassTable
from pipelines.tasks.classification.evaluated_images import EvaluatedClasses
from pipelines.tasks.image_marks import ImageName

NAMES = [ImageName(number, "s", f"{number}.png") for number in range(3)]
SCORES = np.array([[0.7, 0.3], [0.6, 0.4], [0.1, 0.9]])


def test_highest_score_of_a_multiclass_task_is_right_or_confused():
    truths = np.array([[1, 0], [0, 1], [0, 1]], dtype=bool)
    images = EvaluatedClasses(ClassTable(NAMES, ["a", "b"], SCORES, truths, is_multilabel=False))
    marked = images.marked(None)
    assert [marked.image(k).predictions[0].outcome for k in range(3)] == ["right", "confused", "right"]
    wrong = marked.image(1)
    assert [(one.label, one.score, one.predicted) for one in wrong.truth] == [("b", 0.4, "a")]
    assert [(one.label, one.score, one.truth) for one in wrong.predictions] == [("a", 0.6, "b")]
    assert marked.find() == [1, 0, 2]
    assert marked.find(label="b", predicted="a") == marked.find("confused") == [1]
    assert marked.find("missed") == marked.find("false_positive") == []
    assert (marked.thresholds, marked.iou) == ({}, None)
    with pytest.raises(ValueError, match="leave out the threshold"):
        images.marked(0.5)


def test_classes_of_a_multilabel_task_are_marked_one_by_one():
    truths = np.array([[1, 1], [0, 0], [0, 1]], dtype=bool)
    images = EvaluatedClasses(ClassTable(NAMES, ["a", "b"], SCORES, truths, is_multilabel=True))
    marked = images.marked(None)
    assert marked.thresholds == {"a": 0.5, "b": 0.5}
    assert [(one.label, one.outcome) for one in marked.image(0).truth] == [("a", "right"), ("b", "missed")]
    assert [(one.label, one.outcome) for one in marked.image(1).predictions] == [("a", "false_positive")]
    assert marked.find("missed", label="b") == [0]
    assert images.marked(0.65).find("false_positive") == []


def test_split_without_images_has_no_marks():
    table = ClassTable([], ["a"], np.zeros((0, 1)), np.zeros((0, 1), dtype=bool), is_multilabel=False)
    assert EvaluatedClasses(table).marked(None).find() == []
