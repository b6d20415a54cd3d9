"""Findings about annotations: causes, messages, and the handling of the annotations."""

import json
from typing import Any

import pytest

from pipelines.base.findings import KINDS
from pipelines.data.dataset.checks.text import render_report

GOOD = {"b.png": [{}]}


def kinds(report: Any) -> set[str]:
    return {finding.kind for finding in report.findings}


def only(report: Any, kind: str) -> Any:
    """Return the finding of a kind, which is the only one of its severity."""
    same = [finding for finding in report.findings if finding.severity == KINDS[kind].severity]
    assert [finding.kind for finding in same] == [kind], render_report(report)
    return same[0]


def test_degenerate_box_is_skipped_and_reported_with_file_and_annotation(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}, {"id": 812, "bbox": [30, 8, 0, 12]}, {"bbox": [3, 3, 4, -1]}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert report.count("degenerate_box") == 2
    finding = report.findings[0]
    assert (finding.severity, finding.file, finding.image, finding.annotation_id) == (
        "warning",
        "train.json",
        "a.png",
        812,
    )
    assert str(finding) == "train.json, a.png, annotation 812: has no area, (30, 8, 0, 12); it is skipped"
    assert [box.bbox_xywh for box in index.records["train"][0].labels["things"]] == [(1, 2, 3, 4)]
    assert (report.layers[0].read, report.layers[0].kept, report.layers[0].degenerate) == (3, 1, 2)


def test_box_that_leaves_its_image_is_clipped_and_one_outside_is_skipped(folder: Any) -> None:
    boxes = [{"bbox": [50, 30, 20, 20], "area": 399}, {"bbox": [70, 0, 5, 5]}, {"bbox": [-2, -3, 5, 5]}]
    folder.coco("train", {"a.png": boxes})
    folder.coco("val", GOOD)
    index, report = folder.check()
    kept = index.records["train"][0].labels["things"]
    assert [box.bbox_xywh for box in kept] == [(50, 30, 10, 10), (0, 0, 3, 2)]
    assert kept[0].area == 100
    assert report.count("out_of_image_box") == 3
    assert (report.layers[0].clipped, report.layers[0].outside, report.layers[0].kept) == (2, 1, 2)


def test_box_that_leaves_its_image_by_rounding_is_neither_reported_nor_changed(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"bbox": [50.005, 2, 10, 4]}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert report.findings == []
    assert index.records["train"][0].labels["things"][0].bbox_xywh == (50.005, 2, 10, 4)


@pytest.mark.parametrize("area", [0, -1, float("nan"), float("inf"), 10**400, 81, 1e9])
def test_area_that_does_not_fit_its_box_is_a_warning_and_replaced(folder: Any, area: float) -> None:
    folder.coco("train", {"a.png": [{"bbox": [1, 2, 8, 5], "area": area, "id": 3}, {"area": 5}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    finding = only(report, "wrong_area")
    assert (finding.file, finding.annotation_id) == ("train.json", 3)
    assert finding.message.endswith("for (1, 2, 8, 5); width x height is used")
    assert [box.area for box in index.records["train"][0].labels["things"]] == [None, 5]


@pytest.mark.parametrize("area", [1, 0.6])
def test_placeholder_or_share_of_the_image_is_no_area(folder: Any, area: float) -> None:
    folder.coco("train", {"a.png": [{"bbox": [1, 2, 50, 30], "area": area}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert "width x height is used" in only(report, "wrong_area").message
    assert index.records["train"][0].labels["things"][0].area is None


@pytest.mark.parametrize("area", [0.17, 39, 40, 54, 59])
def test_area_of_a_mask_or_of_both_end_pixels_is_kept(folder: Any, area: float) -> None:
    folder.coco("train", {"a.png": [{"bbox": [1, 2, 8, 5], "area": area}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert not report.findings
    assert index.records["train"][0].labels["things"][0].area == area


def test_duplicate_box_is_reported_and_kept(folder: Any) -> None:
    categories = [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}]
    folder.coco("train", {"a.png": [{}, {"id": 9}, {"category_id": 6}]}, categories=categories)
    folder.coco("val", GOOD, categories=categories)
    index, report = folder.check()
    assert only(report, "duplicate_box").annotation_id == 9
    assert len(index.records["train"][0].labels["things"]) == 3


def test_annotation_of_an_unknown_category_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}, {"id": 4, "category_id": 9}]})
    folder.coco("val", GOOD)
    _, report = folder.check()
    finding = only(report, "unknown_category")
    assert finding.annotation_id == 4
    assert finding.message == "category_id 9 is not declared; 'categories' has 5 (cat)"
    assert report.layers[0].unknown_category == 1


def test_category_without_an_annotation_is_a_warning(folder: Any) -> None:
    categories = [{"id": 5, "name": "cat"}, {"id": 7, "name": "dog"}]
    folder.coco("train", {"a.png": [{}]}, categories=categories)
    folder.coco("val", GOOD, categories=categories)
    index, report = folder.check()
    assert "'dog'" in only(report, "unused_category").message
    assert [category.name for category in index.categories["things"]] == ["cat", "dog"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_category_that_is_not_in_train_is_a_warning(folder: Any, split: str) -> None:
    categories = [{"id": 5, "name": "cat"}, {"id": 7, "name": "dog"}]
    folder.coco("train", {"a.png": [{}]}, categories=categories)
    folder.coco("val", GOOD, categories=categories)
    folder.coco(split, {"c.png": [{}, {"category_id": 7}]}, categories=categories)
    (folder.root / "images/b.png").unlink(missing_ok=True) if split == "val" else None
    _, report = folder.check()
    assert only(report, "not_in_train").split == split


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"images": []}', '{"images": 3, "annotations": [], "categories": []}', "\udcff" * 3]
)
def test_broken_coco_file_is_an_error(folder: Any, text: str) -> None:
    folder.coco("val", GOOD)
    (folder.root / "train.json").write_bytes(text.encode(errors="surrogateescape"))
    _, report = folder.check()
    assert "broken_label_file" in kinds(report)
    assert {finding.file for finding in report.findings if finding.kind == "broken_label_file"} == {"train.json"}


@pytest.mark.parametrize(
    ("broken", "fragment"),
    [
        ({"bbox": None}, "has no 'bbox'"),
        ({"image_id": None, "category_id": None}, "has no 'image_id' and no 'category_id'"),
        ({"bbox": [1, 2, 3]}, "bbox is [1, 2, 3]; write four finite numbers"),
        ({"bbox": [1, 2, 3, float("nan")]}, "four finite numbers"),
        ({"bbox": [1, 2, 3, 10**400]}, "four finite numbers"),
        ({"bbox": [1, 2, 3, "4"]}, "four finite numbers"),
        ({"iscrowd": "maybe"}, 'iscrowd is "maybe"; write 0 or 1'),
        ({"iscrowd": 2}, "iscrowd is 2"),
        ({"iscrowd": []}, "iscrowd is []"),
        ({"area": "9"}, 'area is "9"'),
        ({"area": True}, "area is true"),
        ({"identity": ["x"]}, 'identity is ["x"]'),
    ],
)
def test_invalid_annotation_is_an_error(folder: Any, broken: dict[str, Any], fragment: str) -> None:
    folder.coco("train", {"a.png": [{"identity": "i"}, {"id": 77} | broken]})
    folder.coco("val", {"b.png": [{"identity": "i"}]})
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects"}}
    labels = [folder.labels[0] | {"tasks": ["things", "lookup"]}]
    _, report = folder.check(tasks=tasks, labels=labels)
    finding = only(report, "broken_entry")
    assert (finding.file, finding.annotation_id) == ("train.json", 77)
    assert fragment in finding.message
    assert report.layers[0].broken_entry == 1


def test_annotation_that_is_not_an_object_is_an_error(folder: Any) -> None:
    document = folder.coco("train", {"a.png": [{}]})
    folder.text("train.json", json.dumps(document | {"annotations": [*document["annotations"], 3]}))
    folder.coco("val", GOOD)
    assert only(folder.check()[1], "broken_entry").annotation_id == "#1"


def test_annotation_of_an_image_that_is_not_listed_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}, {"id": 3, "image_id": "100"}]})
    folder.coco("val", GOOD)
    _, report = folder.check()
    assert only(report, "unknown_image").annotation_id == 3
    assert report.layers[0].unknown_image == 1


def test_broken_image_and_category_entries_are_errors(folder: Any) -> None:
    document = folder.coco("train", {"a.png": [{}]})
    images = [*document["images"], {"id": 8}, {"id": 9, "file_name": "z.png", "height": "tall", "width": 4}]
    categories = [*document["categories"], {"id": 6}, {"id": 5, "name": "dog"}]
    folder.image("z.png")
    folder.text("train.json", json.dumps(document | {"images": images, "categories": categories}))
    folder.coco("val", GOOD)
    _, report = folder.check()
    assert [finding.kind for finding in report.errors] == ["broken_entry"] * 4
