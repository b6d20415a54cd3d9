"""Weights of classes in the loss."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from pipelines.base.errors import ConfigError
from pipelines.base.records import Category, ImageRecord
from pipelines.tasks.base import TaskSetup
from pipelines.tasks.classification.spec import MulticlassSpec
from pipelines.tasks.classification.tensors.class_weights import balanced_class_weights, class_weights

CLASSES = [Category(5, "a"), Category(2, "b"), Category(9, "c")]


def record(**labels: list[str]) -> ImageRecord:
    return ImageRecord(1, "s", "train", "x.png", Path("x.png"), height=30, width=40, labels=labels)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    names = ["a"] * 6 + ["b"] * 3 + ["c"]
    weights = balanced_class_weights([record(one=[name]) for name in names] + [record()], "one", CLASSES)
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=names)
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float32))


def test_class_that_never_occurs_has_weight_one() -> None:
    weights = balanced_class_weights([record(some=["a"]), record(some=["a", "c"]), record(some=[])], "some", CLASSES)
    torch.testing.assert_close(weights, torch.tensor([3 / (2 * 2), 1.0, 3 / (2 * 1)]))


def test_weights_by_class_are_one_where_the_document_names_none() -> None:
    setup = TaskSetup("one", MulticlassSpec(head="multiclass", class_weights={"b": 3}), CLASSES)
    assert class_weights(setup, []).tolist() == [1.0, 3.0, 1.0]
    assert class_weights(TaskSetup("one", MulticlassSpec(head="multiclass"), CLASSES), []) is None


def test_weight_of_an_unknown_class_is_rejected_with_the_field() -> None:
    setup = TaskSetup("one", MulticlassSpec(head="multiclass", class_weights={"d": 3}), CLASSES)
    with pytest.raises(ConfigError, match=r"model\.tasks\.one\.class_weights: got \['d'\]; .*\['a', 'b', 'c'\]"):
        class_weights(setup, [])
