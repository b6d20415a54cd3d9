"""Exports of Label Studio are read."""

import json
from typing import Any

import pytest

LAYER = [{"format": "label_studio", "path": "{split}.json", "tasks": ["things"]}]
BOX = {"x": 25.0, "y": 12.5, "width": 50.0, "height": 25.0, "rotation": 0, "rectanglelabels": ["cat"]}


def region(value: dict[str, Any] = BOX, kind: str = "rectanglelabels", **parts: Any) -> dict[str, Any]:
    given = {"id": "r", "type": kind, "from_name": "label", "original_width": 60, "original_height": 40}
    return given | {"image_rotation": 0, "value": value} | parts


def task(image: str, *results: Any, **parts: Any) -> dict[str, Any]:
    return {"id": 7, "data": {"image": image}, "annotations": [{"result": list(results)}]} | parts


def check(folder: Any, *tasks: Any, **job: Any) -> Any:
    for name in ("a.png", "b.png"):
        if not (folder.root / "images" / name).exists():
            folder.image(name)
    folder.text("train.json", json.dumps(tasks))
    folder.text("val.json", json.dumps([task("b.png", region())]))
    return folder.check(**{"labels": LAYER} | job)


def boxes_of(index: Any, split: str = "train", number: int = 0) -> list[Any]:
    return [(box.category, box.bbox_xywh) for box in index.records[split][number].labels["things"]]


@pytest.mark.parametrize(
    ("given", "file_name"),
    [
        ("a.png", "a.png"),
        ("/data/upload/1/0123abcd-a.png", "a.png"),
        ("/data/upload/0123abcd-my_photo_1.png", "my photo (1).png"),
        ("s3://bucket/folder/a.png", "a.png"),
        ("https://host:8080/files/deep/c.png?token=1", "deep/c.png"),
        ("/data/local-files/?d=set/deep/c.png", "deep/c.png"),
        ("https://host/d%C3%A9j%C3%A0.png", "déjà.png"),
        ("only_here.png", "some/where/only_here.png"),
        ("0123abcd-x.png", "0123abcd-x.png"),
        ("../../a.png", "a.png"),
    ],
)
def test_images_are_found_by_the_end_of_their_address_without_the_prefix_of_uploads(
    folder: Any, given: str, file_name: str
) -> None:
    for name in {file_name, "x.png"}:
        folder.image(name)
    index, report = check(folder, task(given, region()))
    assert [record.file_name for record in index.records["train"]] == [file_name]
    assert not report.errors


def test_percent_of_the_image_and_rotations_around_the_corner_or_the_center(folder: Any) -> None:
    rotated = BOX | {"x": 50.0, "y": 25.0, "width": 25.0, "height": 25.0, "rotation": 90}
    ellipse = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 10, "rotation": 90, "ellipselabels": ["dog"]}
    polygon = {"points": [[10, 10], [50, 10], [30, 60]], "polygonlabels": ["dog", "cat"]}
    index, _ = check(folder, task("a.png", region(), region(rotated), region(ellipse), region(polygon)))
    expected = [
        ("cat", (15, 5, 30, 10)),
        ("cat", (20, 10, 10, 15)),
        ("dog", (26, 5, 8, 30)),
        ("dog", (6, 4, 24, 20)),
        ("cat", (6, 4, 24, 20)),
    ]
    assert [name for name, _ in boxes_of(index)] == [name for name, _ in expected]
    assert [box for _, box in boxes_of(index)] == [pytest.approx(box) for _, box in expected]


def test_first_annotation_that_is_not_cancelled_counts_and_tasks_without_one_are_skipped(folder: Any) -> None:
    annotations = [
        {"was_cancelled": True, "result": [region(), region()]},
        {"result": [region()]},
        {"result": [region(), region()]},
    ]
    tasks = [task("a.png", annotations=annotations), task("c.png", annotations=[]), task("d.png")]
    for name in ("c.png", "d.png"):
        folder.image(name)
    index, report = check(folder, *tasks)
    assert {record.file_name: len(record.labels["things"]) for record in index.records["train"]} == {
        "a.png": 1,
        "d.png": 0,
    }
    assert [(f.kind, f.image) for f in report.findings if f.image] == [
        ("unlabelled_image", "c.png"),
        ("several_annotations", "a.png"),
    ]


@pytest.mark.parametrize(("value", "is_cancelled"), [("false", False), ("0", False), (1, True), ("True", True)])
def test_cancelled_is_read_as_a_number_or_a_word(folder: Any, value: Any, is_cancelled: bool) -> None:
    annotations = [{"was_cancelled": value, "result": [region(), region()]}, {"result": [region()]}]
    index, _ = check(folder, task("a.png", annotations=annotations))
    assert len(boxes_of(index)) == (1 if is_cancelled else 2)


def test_cancelled_that_is_neither_true_nor_false_is_an_error(folder: Any) -> None:
    _, report = check(folder, task("a.png", annotations=[{"was_cancelled": "maybe", "result": [region()]}]))
    error = next(error for error in report.errors if error.kind == "broken_entry")
    assert error.message == "has an annotation whose 'was_cancelled' is 'maybe'; write true or false"


def test_old_exports_call_annotations_completions(folder: Any) -> None:
    old = {"id": 1, "data": {"picture": "a.png", "note": "x"}, "completions": [{"result": [region()]}]}
    assert boxes_of(check(folder, old)[0]) == [("cat", (15, 5, 30, 10))]


def test_rectangle_and_its_label_may_be_two_results_and_an_identity_a_third(folder: Any) -> None:
    shape = {key: BOX[key] for key in ("x", "y", "width", "height", "rotation")}
    who = region({"choices": ["tom"]}, "choices", from_name="who")
    results = [region(shape, "rectangle"), region(shape | {"labels": ["cat"]}, "labels"), who]
    relation = {"type": "relation", "from_id": "r", "to_id": "s"}
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    labels = [LAYER[0] | {"tasks": ["things", "lookup"]}]
    index, report = check(folder, task("a.png", *results, relation), labels=labels, tasks=tasks)
    assert boxes_of(index) == [("cat", (15, 5, 30, 10))]
    assert [box.identity for box in index.records["train"][0].labels["lookup"]] == ["tom"]
    assert not [finding for finding in report.findings if finding.kind == "unsupported_shape"]


def test_results_without_a_box_are_counted(folder: Any) -> None:
    brush = region({"format": "rle", "rle": [1], "brushlabels": ["cat"]}, "brushlabels", id="s")
    choice = region({"choices": ["day"]}, "choices", id="t")
    _, report = check(folder, task("a.png", region(), brush, choice, choice))
    assert [finding.message for finding in report.warnings if finding.kind == "unsupported_shape"] == [
        "has annotations of the kind 'brushlabels', which is not a box; 1 of them are skipped",
        "has annotations of the kind 'choices', which is not a box; 2 of them are skipped",
    ]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("{}", "export the project as 'JSON'"),
        ('[{"image": "a.png", "label": []}]', "as 'JSON-MIN' has"),
        ("[1]", "is not a list of tasks"),
        ("[", "is not valid JSON"),
    ],
)
def test_file_of_another_format_is_an_error(folder: Any, text: str, fragment: str) -> None:
    folder.text("train.json", text)
    _, report = folder.check(labels=LAYER)
    assert (report.errors[0].kind, report.errors[0].file) == ("broken_label_file", "train.json")
    assert fragment in report.errors[0].message


@pytest.mark.parametrize(
    ("result", "fragment"),
    [
        (region(BOX | {"x": "a"}), "write finite numbers"),
        (region(BOX | {"rectanglelabels": []}), "has no label"),
        (region(BOX | {"rotation": "a"}), "write degrees"),
        (region(image_rotation=90), "turned by 90 degrees"),
        (region(BOX | {"rotation": 9}, original_width=None), "'original_width' and 'original_height' are missing"),
        (region({"points": [[1, 2], [3, 4]], "polygonlabels": ["cat"]}), "three points"),
        (3, "a result has no 'value'"),
    ],
)
def test_broken_result_is_an_error_that_names_its_task(folder: Any, result: Any, fragment: str) -> None:
    _, report = check(folder, task("a.png", result))
    error = report.errors[0]
    assert (error.kind, error.image, error.annotation_id) == ("broken_entry", "a.png", "task 7")
    assert fragment in error.message


def test_broken_tasks_are_errors(folder: Any) -> None:
    folder.image("one/c.png")
    folder.image("two/c.png")
    tasks = [{"annotations": []}, task("c.png"), task("a.png", annotations=[3]), task("a.png", region())]
    _, report = check(folder, *tasks, task("a.png", region()))
    assert [finding.kind for finding in report.errors][:3] == ["broken_entry", "ambiguous_image", "broken_entry"]
    assert "has no image; its data has the keys []" in report.errors[0].message
    assert "is the image of two tasks" in str(report.warnings[0])


def test_export_without_splits_belongs_to_the_first_split(folder: Any) -> None:
    labels = [LAYER[0] | {"path": "train.json", "image_key": "photo"}]
    tasks = [task("x", region(), data={"photo": name, "image": "wrong.png"}) for name in ("a.png", "b.png")]
    index, report = check(folder, *tasks, labels=labels)
    assert len(index.records["train"]) == 2
    assert [finding.split for finding in report.errors if finding.kind == "missing_label_file"] == ["val"]


@pytest.mark.parametrize(
    "part",
    [
        {"id": {}}, {"id": [1]}, {"from_name": {}}, {"from_name": []}, {"original_width": 10**400},
        {"value": BOX | {"rectanglelabels": 1.5}}, {"value": BOX | {"x": 10**400}}, {"value": BOX | {"rotation": {}}},
        {"value": {"points": [[1, 10**400], [2, 2], [3, 3]], "polygonlabels": ["cat"]}}, {"type": None},
    ],
)  # fmt: skip
def test_values_of_wrong_types_are_never_a_traceback(folder: Any, part: dict[str, Any]) -> None:
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    _, report = check(
        folder, task("a.png", region(**part)), labels=[LAYER[0] | {"tasks": ["things", "lookup"]}], tasks=tasks
    )
    assert all(finding.image == "a.png" for finding in report.errors if finding.kind == "broken_entry")


def test_one_label_may_be_a_text_and_regions_without_an_id_have_nothing_in_common(folder: Any) -> None:
    without_label = {key: BOX[key] for key in ("x", "y", "width", "height")}
    one, other = region(BOX | {"rectanglelabels": "cat"}, id=None), region(without_label, "rectangle", id=None)
    index, report = check(folder, task("a.png", one, other))
    assert [name for name, _ in boxes_of(index)] == ["cat"]
    assert ["has no label" in error.message for error in report.errors] == [True]


def test_sizes_may_be_whole_floats(folder: Any) -> None:
    rotated = BOX | {"x": 50.0, "y": 25.0, "width": 25.0, "height": 25.0, "rotation": 90}
    index, _ = check(folder, task("a.png", region(rotated, original_width=60.0, original_height=40.0)))
    assert boxes_of(index)[0][1] == pytest.approx((20, 10, 10, 15))


def test_regions_of_several_images_of_a_task_are_not_mixed(folder: Any) -> None:
    left, right = region(to_name="left"), region(to_name="right", id="s")
    _, report = check(folder, task("a.png", left, right))
    (error,) = [finding for finding in report.errors if finding.kind == "broken_entry"]
    assert "regions belong to several images, left, right; export one project for each image" in error.message


def test_two_uploads_are_never_one_image_and_invalid_addresses_are_names(folder: Any) -> None:
    tasks = [task(f"/data/upload/1/{prefix}-a.png", region()) for prefix in ("0123abcd", "89abcdef")]
    _, report = check(folder, *tasks, task("http://[broken/b.png", region()))
    assert [error.kind for error in report.errors if error.kind == "ambiguous_image"] == ["ambiguous_image"]
    assert not [error for error in report.errors if error.kind == "unsafe_path"]
