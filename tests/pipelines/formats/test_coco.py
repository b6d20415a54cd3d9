"""COCO instances are read."""

from typing import Any

import pytest

from pipelines.base.causes import causes_of


def boxes_of(index: Any, split: str = "train", number: int = 0, task: str = "things") -> list[Any]:
    return [box.bbox_xywh for box in index.records[split][number].labels[task]]


@pytest.mark.parametrize("ids", [("b", "a"), (2.5, "2.5"), (-7, 0), (2**70, 12)])
def test_coco_ids_may_be_any_distinct_values(folder: Any, ids: tuple[Any, Any]) -> None:
    images = [{"id": ids[0], "file_name": "a.png"}, {"id": ids[1], "file_name": "c.png"}]
    annotations = [
        {"id": ids[0], "image_id": ids[1], "category_id": "five", "bbox": [1, 1, 2, 2]},
        {"image_id": ids[0], "category_id": "five", "bbox": [3, 3, 2, 2]},
    ]
    categories = [{"id": "five", "name": "cat"}]
    for name in ("a.png", "c.png"):
        folder.image(name)
    folder.coco("train", {}, images=images, annotations=annotations, categories=categories)
    folder.coco("val", {"b.png": [{"category_id": "five"}]}, categories=categories)
    index, report = folder.check()
    assert not report.findings
    assert (boxes_of(index, number=0), boxes_of(index, number=1)) == ([(3, 3, 2, 2)], [(1, 1, 2, 2)])
    assert [record.image_id for split in index.records.values() for record in split] == [1, 2, 3]
    assert [(category.id, category.name) for category in index.categories["things"]] == [(1, "cat")]
    assert [record.labels["things"][0].annotation_id for record in index.records["train"]] == [1, 2]


def test_coco_crowd_area_and_identity_are_read(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"iscrowd": 1, "area": 6.5, "who": 31}, {"who": None}, {"who": ""}]})
    folder.coco("val", {"b.png": [{"who": "31"}]})
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    labels = [folder.labels[0] | {"tasks": ["things", "lookup"]}]
    index, report = folder.check(labels=labels, tasks=tasks)
    crowd, *others = index.records["train"][0].labels["lookup"]
    assert (crowd.is_crowd, crowd.area, crowd.identity) == (True, 6.5, "31")
    assert [box.identity for box in others] == [None, None]
    assert report.tasks["things"].crowd["train"] == report.layers[0].crowd == 1
    assert index.categories["lookup"] == []


@pytest.mark.parametrize(
    ("value", "is_crowd"), [("true", True), (True, True), (1.0, True), ("0", False), (None, False)]
)
def test_coco_crowd_is_read_as_a_number_or_a_word(folder: Any, value: Any, is_crowd: bool) -> None:
    folder.coco("train", {"a.png": [{"iscrowd": value}, {"bbox": [5, 5, 9, 9]}]})
    folder.coco("val", {"b.png": [{}]})
    index, report = folder.check()
    assert not report.findings
    assert index.records["train"][0].labels["things"][0].is_crowd == is_crowd


def test_box_is_derived_from_the_segmentation_where_bbox_is_missing(folder: Any) -> None:
    polygon = {"bbox": None, "segmentation": [[1, 2, 5, 2, 5, 9]], "area": 14}
    mask = {"bbox": [], "segmentation": {"size": [40, 60], "counts": [40 * 3 + 5, 10, 40 * 57 - 15]}}
    given_box = {"bbox": [1, 1, 2, 2], "segmentation": [[1, 2, 5, 2, 5, 9]]}
    folder.coco("train", {"a.png": [polygon, mask, given_box]})
    folder.coco("val", {"b.png": [{}]})
    index, report = folder.check()
    assert boxes_of(index) == [(1, 2, 4, 7), (3, 5, 1, 10), (1, 1, 2, 2)]
    assert not report.findings


def test_annotations_with_neither_box_nor_segmentation_are_one_line_of_the_report(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"bbox": None, "segmentation": []}] * 3 + [{"bbox": None}] * 2})
    folder.coco("val", {"b.png": [{}]})
    _, report = folder.check()
    assert report.layers[0].broken_entry == 5
    lines = [cause.describe() for cause in causes_of([f for f in report.findings if f.kind == "broken_entry"])]
    assert len(lines) == 2
    assert "has no 'bbox', and its 'segmentation' is empty (3 times" in lines[0]
    assert "has no 'bbox', and no 'segmentation' to derive it from (2 times" in lines[1]


def test_coco_category_names_are_stripped_and_equal_ones_are_merged(folder: Any) -> None:
    categories = [{"id": 5, "name": " cat"}, {"id": 6, "name": "cat "}]
    folder.coco("train", {"a.png": [{}, {"category_id": 6, "bbox": [9, 9, 5, 5]}]}, categories=categories)
    folder.coco("val", {"b.png": [{}]}, categories=categories)
    index, report = folder.check()
    assert [category.name for category in index.categories["things"]] == ["cat"]
    assert len(index.records["train"][0].labels["things"]) == 2
    assert {(finding.kind, finding.message) for finding in report.findings} == {
        ("repeated_category", "the categories 5 and 6 are both 'cat'; they are merged")
    }
