"""Labels are encoded as targets."""

from pathlib import Path

import pytest
import torch

from heads.base import BoxTarget, ClassTarget, IdentityTarget
from pipelines.base.errors import DataError
from pipelines.base.records import BoxLabel, Category, ImageRecord
from pipelines.data.loading.targets import TargetEncoder
from pipelines.tasks.classification.spec import MulticlassSpec, MultilabelSpec
from pipelines.tasks.detection.spec import FCOSSpec
from pipelines.tasks.embedding.spec import EmbeddingSpec

CLASSES = [Category(5, "a"), Category(2, "b"), Category(9, "c")]
ENCODER = TargetEncoder(
    {
        "boxes": FCOSSpec(head="fcos"),
        "one": MulticlassSpec(head="multiclass"),
        "some": MultilabelSpec(head="multilabel"),
        "who": EmbeddingSpec(head="embedding", of="objects"),
        "whose": EmbeddingSpec(head="embedding", of="image"),
    },
    {"boxes": CLASSES, "one": CLASSES, "some": CLASSES, "who": CLASSES, "whose": CLASSES},
)


def record(**labels: list[BoxLabel] | list[str]) -> ImageRecord:
    return ImageRecord(1, "s", "train", "x.png", Path("x.png"), height=30, width=40, labels=labels)


def test_only_tasks_that_the_image_is_labeled_for_have_a_target() -> None:
    assert set(ENCODER.encode(record(one=["a"], boxes=[]))) == {"boxes", "one"}


def test_image_without_boxes_has_an_empty_target_with_all_shapes() -> None:
    target = ENCODER.encode(record(boxes=[]))["boxes"]
    assert isinstance(target, BoxTarget)
    assert target.boxes_xyxy.shape == (0, 4)
    assert target.labels.dtype == target.identities.dtype == torch.int64
    assert target.is_crowd.dtype == torch.bool
    assert len(target.labels) == len(target.identities) == len(target.is_crowd) == 0


def test_boxes_become_clipped_corners_with_class_positions() -> None:
    boxes = [BoxLabel(1, "c", (35.5, 2, 10, 4)), BoxLabel(2, "a", (-3, 20, 10, 15), is_crowd=True)]
    target = ENCODER.encode(record(boxes=boxes))["boxes"]
    assert isinstance(target, BoxTarget)
    torch.testing.assert_close(target.boxes_xyxy, torch.tensor([[35.5, 2, 40, 6], [0, 20, 7, 30]]))
    assert target.labels.tolist() == [2, 0]
    assert target.is_crowd.tolist() == [False, True]
    assert target.identities.tolist() == [-1, -1]


def test_identities_that_are_unknown_or_missing_in_train_are_minus_one() -> None:
    boxes = [BoxLabel(i, "x", (0, 0, 5, 5), identity=name) for i, name in enumerate(["b", None, "new"])]
    targets = ENCODER.encode(record(who=boxes, whose=["new"]))
    assert isinstance(targets["who"], BoxTarget)
    assert isinstance(targets["whose"], IdentityTarget)
    assert targets["who"].identities.tolist() == [1, -1, -1]
    assert targets["whose"].identity.item() == -1


def test_classes_become_a_position_or_a_vector() -> None:
    targets = ENCODER.encode(record(one=["c"], some=["c", "a"]))
    assert isinstance(targets["one"], ClassTarget)
    assert isinstance(targets["some"], ClassTarget)
    assert targets["one"].labels.shape == ()
    assert targets["one"].labels.item() == 2
    assert targets["one"].labels.dtype == torch.int64
    assert targets["some"].labels.tolist() == [1.0, 0.0, 1.0]
    nothing = ENCODER.encode(record(some=[]))["some"]
    assert isinstance(nothing, ClassTarget)
    assert nothing.labels.tolist() == [0.0, 0.0, 0.0]


def test_unknown_class_is_reported_with_file_task_and_choices() -> None:
    with pytest.raises(DataError, match=r"x\.png: the label 'd' of task 'one'.*\['a', 'b', 'c'\]"):
        ENCODER.encode(record(one=["d"]))


@pytest.mark.parametrize("names", [[], ["a", "b"]])
def test_task_with_one_class_per_image_rejects_zero_or_several_classes(names: list[str]) -> None:
    with pytest.raises(DataError, match="exactly one"):
        ENCODER.encode(record(one=names))
