"""Datumaro's JSON files are read."""

import json
from typing import Any

import pytest

DATUMARO = [{"format": "datumaro", "tasks": ["things"]}]
BOX = {"type": "bbox", "bbox": [10, 5, 20, 10], "label_id": 0}


def write_datumaro(folder: Any, split: str, entries: list[dict[str, Any]], **parts: Any) -> None:
    labels = {"label": {"labels": [{"name": "cat", "parent": ""}, {"name": "dog"}], "attributes": []}}
    document = {"dm_format_version": "1.0", "infos": {}, "categories": labels, "items": entries} | parts
    folder.text(f"annotations/{split}.json", json.dumps(document))


def item(folder: Any, name: str, annotations: list[Any], **parts: Any) -> dict[str, Any]:
    folder.image(name)
    media = {"path": name.rpartition("/")[2], "size": [40, 60]}
    return {"id": name.rpartition("/")[2].partition(".")[0], "annotations": annotations, "image": media} | parts


def boxes_of(index: Any, split: str = "train", number: int = 0) -> list[Any]:
    return [(box.category, box.bbox_xywh) for box in index.records[split][number].labels["things"]]


@pytest.mark.parametrize("place", ["", "{}/"])
def test_boxes_and_outlines_are_read_and_images_may_be_in_a_folder_of_the_subset(folder: Any, place: str) -> None:
    annotations = [
        BOX,
        {"type": "polygon", "points": [1, 2, 5.5, 2, 3, 9], "label_id": 1},
        {"type": "mask", "rle": {"size": [40, 60], "counts": [40 * 3 + 5, 10, 40 * 57 - 15]}, "label_id": 1},
        {"type": "ellipse", "points": [1, 2, 5, 9], "label_id": 1},
        {"type": "points", "points": [1, 2], "label_id": 1},
        {"type": "label", "label_id": 1},
    ]
    write_datumaro(folder, "train", [item(folder, f"{place.format('train')}a.png", annotations)])
    write_datumaro(folder, "val", [item(folder, f"{place.format('val')}b.png", [BOX], image={"path": ""})])
    index, report = folder.check(labels=DATUMARO)
    assert boxes_of(index) == [
        ("cat", (10, 5, 20, 10)),
        ("dog", (1, 2, 4.5, 7)),
        ("dog", (3, 5, 1, 10)),
        ("dog", (1, 2, 4, 7)),
    ]
    assert boxes_of(index, "val") == [("cat", (10, 5, 20, 10))]
    assert [(category.id, category.name) for category in index.categories["things"]] == [(0, "cat"), (1, "dog")]
    assert [finding.kind for finding in report.findings] == ["unsupported_shape"] * 2


def test_crowd_difficult_and_identities_are_attributes(folder: Any) -> None:
    attributes = {"is_crowd": True, "difficult": "True", "who": 31}
    write_datumaro(folder, "train", [item(folder, "a.png", [BOX | {"attributes": attributes}, BOX])])
    write_datumaro(folder, "val", [item(folder, "b.png", [BOX])])
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    index, _ = folder.check(labels=[DATUMARO[0] | {"tasks": ["things", "lookup"]}], tasks=tasks)
    first, second = index.records["train"][0].labels["lookup"]
    assert (first.is_crowd, first.is_difficult, first.identity) == (True, True, "31")
    assert (second.is_crowd, second.is_difficult, second.identity) == (False, False, None)


@pytest.mark.parametrize(
    ("parts", "fragment"),
    [
        ({"items": None}, "is not Datumaro's JSON"),
        ({"categories": {}}, "is not Datumaro's JSON"),
        ({"categories": {"label": {"labels": [{"name": ""}]}}}, "is not Datumaro's JSON"),
    ],
)
def test_file_of_another_format_is_an_error(folder: Any, parts: dict[str, Any], fragment: str) -> None:
    write_datumaro(folder, "train", [], **parts)
    _, report = folder.check(labels=DATUMARO)
    assert (report.errors[0].kind, report.errors[0].file) == ("broken_label_file", "annotations/train.json")
    assert fragment in report.errors[0].message
    folder.text("annotations/train.json", "[")
    assert "is not valid JSON" in str(folder.check(labels=DATUMARO)[1].errors[0])


@pytest.mark.parametrize(
    ("annotation", "kind", "fragment"),
    [
        (
            BOX | {"label_id": None},
            "unknown_category",
            "label_id None is not declared; the file has the classes 0 to 1",
        ),
        (BOX | {"label_id": 2}, "unknown_category", "label_id 2"),
        (BOX | {"bbox": [1, 2, 3]}, "broken_entry", "write four finite numbers"),
        ({"type": "polygon", "points": [1, 2], "label_id": 0}, "broken_entry", "at least three points"),
        ({"type": "mask", "label_id": 0}, "broken_entry", "mask is not"),
        ({"type": "ellipse", "label_id": 0}, "broken_entry", "write [left, top, right, bottom]"),
        ("text", "broken_entry", "is not an object with a 'type'"),
    ],
)
def test_broken_annotation_is_an_error_that_names_its_image(
    folder: Any, annotation: Any, kind: str, fragment: str
) -> None:
    write_datumaro(folder, "train", [item(folder, "a.png", [BOX, annotation]), {"annotations": []}])
    write_datumaro(folder, "val", [item(folder, "b.png", [BOX])])
    _, report = folder.check(labels=DATUMARO)
    error = next(finding for finding in report.errors if finding.image == "a.png")
    assert (error.kind, error.annotation_id) == (kind, "#1")
    assert fragment in error.message
    assert "item 1 needs an 'id'" in "".join(finding.message for finding in report.errors)


def test_image_of_an_item_has_the_extension_of_its_path(folder: Any) -> None:
    folder.image("a.bmp")
    write_datumaro(folder, "train", [item(folder, "a.png", [BOX])])
    write_datumaro(folder, "val", [item(folder, "b.png", [BOX])])
    index, _ = folder.check(labels=DATUMARO)
    assert [record.file_name for record in index.records["train"]] == ["a.png"]


def test_item_without_its_image_does_not_label_the_one_of_another_item(folder: Any) -> None:
    folder.image("one/1.png")
    items = [
        {"id": f"{place}/1", "annotations": [BOX], "image": {"path": f"{place}/1.png"}} for place in ("one", "two")
    ]
    write_datumaro(folder, "train", items)
    _, report = folder.check(labels=DATUMARO)
    assert report.errors[0].kind == "ambiguous_image"
    assert "'one/1' and 'two/1' are both matched to the image 'one/1.png'" in report.errors[0].message


def test_huge_integers_are_not_sides_and_equal_names_of_classes_are_reported(folder: Any) -> None:
    names = {"label": {"labels": [{"name": "cat"}, {"name": "cat"}]}}
    items = [item(folder, "a.png", [BOX, BOX | {"bbox": [10**400, 0, 1, 1]}])]
    write_datumaro(folder, "train", items, categories=names)
    write_datumaro(folder, "val", [item(folder, "b.png", [BOX])])
    _, report = folder.check(labels=DATUMARO)
    assert ["write four finite numbers" in error.message for error in report.errors] == [True]
    assert "repeated_category" in {finding.kind for finding in report.warnings}
    assert len(report.errors[0].message) < 1000


@pytest.mark.parametrize(("value", "is_crowd"), [("yes", True), (1.0, True), ("no", False), (None, False)])
def test_truth_values_of_attributes_are_read_as_in_other_formats(folder: Any, value: Any, is_crowd: bool) -> None:
    write_datumaro(folder, "train", [item(folder, "a.png", [BOX, BOX | {"attributes": {"is_crowd": value}}])])
    write_datumaro(folder, "val", [item(folder, "b.png", [BOX])])
    index, _ = folder.check(labels=DATUMARO)
    assert index.records["train"][0].labels["things"][1].is_crowd is is_crowd


def test_attribute_that_is_neither_true_nor_false_is_an_error(folder: Any) -> None:
    write_datumaro(folder, "train", [item(folder, "a.png", [BOX, BOX | {"attributes": {"difficult": "maybe"}}])])
    write_datumaro(folder, "val", [item(folder, "b.png", [BOX])])
    _, report = folder.check(labels=DATUMARO)
    assert "the attribute difficult is 'maybe'; write true or false" in report.errors[0].message


@pytest.mark.parametrize(
    "annotation",
    [
        BOX | {"attributes": {"is_crowd": 2}},
        BOX | {"attributes": {"difficult": "perhaps"}},
        BOX | {"bbox": [10**400, 5, 20, 10]},
        {"type": "ellipse", "points": [1, 2, 10**400, 9], "label_id": 1},
    ],
)
def test_unclear_truth_values_and_huge_numbers_are_errors(folder: Any, annotation: dict[str, Any]) -> None:
    write_datumaro(folder, "train", [item(folder, "a.png", [BOX, annotation])])
    write_datumaro(folder, "val", [item(folder, "b.png", [BOX])])
    (finding,) = folder.check(labels=DATUMARO)[1].errors
    assert (finding.kind, finding.image) == ("broken_entry", "a.png")
