"""Exports of CVAT for images 1.1 are read."""

from typing import Any

import pytest

CVAT = [{"format": "cvat", "tasks": ["things"]}]
BOX = '<box label="cat" xtl="10" ytl="5" xbr="30" ybr="15"/>'
META = "<meta><task><labels><label><name>cat</name></label><label><name>dog</name></label></labels></task></meta>"


def write_cvat(folder: Any, images: dict[str, str], *, meta: str = META, path: str = "annotations.xml") -> None:
    """Write image files and the XML file: shapes by image, whose subset is the first folder of the name."""
    text = ""
    for number, (name, shapes) in enumerate(images.items()):
        folder.image(name)
        subset, _, own_name = name.rpartition("/")
        subset = f' subset="{subset}"' if subset else ""
        text += f'<image id="{number}" name="{own_name}"{subset} width="60" height="40">{shapes}</image>'
    folder.text(path, f"<annotations><version>1.1</version>{meta}{text}</annotations>")


def boxes_of(index: Any, split: str = "train", number: int = 0) -> list[Any]:
    return [(box.category, box.bbox_xywh) for box in index.records[split][number].labels["things"]]


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Validation")])
def test_subsets_are_splits(folder: Any, names: tuple[str, str]) -> None:
    write_cvat(
        folder, {f"{names[0]}/a.png": BOX, f"{names[0]}/c.png": "", f"{names[1]}/a.png": BOX, "other/d.png": BOX}
    )
    index, report = folder.check(labels=CVAT)
    assert [record.file_name for record in index.records["train"]] == [f"{names[0]}/a.png", f"{names[0]}/c.png"]
    assert boxes_of(index) == boxes_of(index, "val") == [("cat", (10, 5, 20, 10))]
    assert boxes_of(index, number=1) == []
    assert [category.name for category in index.categories["things"]] == ["cat", "dog"]
    assert {finding.kind for finding in report.findings} == {"unused_category", "unlisted_image"}


def test_export_without_subsets_is_one_split_or_one_file_for_each_split(folder: Any) -> None:
    write_cvat(folder, {"a.png": BOX, "b.png": BOX})
    index, report = folder.check(labels=CVAT)
    assert [record.file_name for record in index.records["train"]] == ["a.png", "b.png"]
    assert [finding.split for finding in report.errors if finding.kind == "missing_label_file"] == ["val"]
    write_cvat(folder, {"b.png": BOX}, path="val.xml")
    write_cvat(folder, {"a.png": BOX}, path="train.xml")
    index, report = folder.check(labels=[CVAT[0] | {"path": "{split}.xml"}])
    assert [record.file_name for record in index.records["val"]] == ["b.png"]
    assert not report.errors


def test_shapes_with_an_extent_become_boxes_and_others_are_counted(folder: Any) -> None:
    shapes = (
        '<box label="cat" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>'
        '<polygon label="dog" points="1,2;5.5,2;3,9"/>'
        '<mask label="cat" rle="1, 2" left="4" top="5" width="6" height="7"/>'
        '<ellipse label="cat" cx="20" cy="10" rx="10" ry="5"/>'
        '<ellipse label="cat" cx="20" cy="20" rx="10" ry="5" rotation="90"/>'
        '<polyline label="cat" points="1,2;3,4"/><points label="cat" points="1,2"/><points label="cat" points="1,2"/>'
        '<tag label="day"/>'
    )
    write_cvat(folder, {"train/a.png": shapes, "val/b.png": BOX})
    index, report = folder.check(labels=CVAT)
    expected = [(15, 5, 10, 20), (1, 2, 4.5, 7), (4, 5, 6, 7), (10, 5, 20, 10), (15, 10, 10, 20)]
    assert [box for _, box in boxes_of(index)] == [pytest.approx(box) for box in expected]
    messages = [finding.message for finding in report.warnings if finding.kind == "unsupported_shape"]
    assert messages == [
        "has annotations of the kind 'points', which is not a box; 2 of them are skipped",
        "has annotations of the kind 'polyline', which is not a box; 1 of them are skipped",
        "has annotations of the kind 'tag', which is not a box; 1 of them are skipped",
    ]
    assert report.layers[0].unsupported_shape == 4


def test_attribute_of_a_shape_is_its_identity(folder: Any) -> None:
    box = BOX.replace("/>", '><attribute name="who"> tom </attribute></box>')
    write_cvat(folder, {"train/a.png": box + BOX, "val/b.png": box})
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    index, _ = folder.check(labels=[CVAT[0] | {"tasks": ["things", "lookup"]}], tasks=tasks)
    assert [box.identity for box in index.records["train"][0].labels["lookup"]] == ["tom", None]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("<annotations>", "is not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>', "it declares entities"),
        ("<annotation/>", "the root of CVAT's files is <annotations>"),
        ("<annotations/>", "has no <image>"),
        ('<annotations><track label="cat"/></annotations>', "export the task as 'CVAT for images 1.1'"),
    ],
)
def test_file_of_another_format_is_an_error(folder: Any, text: str, fragment: str) -> None:
    folder.text("annotations.xml", text)
    _, report = folder.check(labels=CVAT)
    assert (report.errors[0].kind, report.errors[0].file) == ("broken_label_file", "annotations.xml")
    assert fragment in report.errors[0].message


@pytest.mark.parametrize(
    ("shape", "fragment"),
    [
        ('<box label="cat" xtl="1" ytl="x" xbr="3" ybr="4"/>', "ytl='x'"),
        ('<box label="cat" xtl="1" ytl="2" xbr="3"/>', "ybr=None"),
        ('<box label="cat" xtl="1" ytl="2" xbr="3" ybr="inf"/>', "write finite numbers"),
        ('<box label="cat" xtl="1" ytl="2" xbr="3" ybr="4" rotation="a"/>', "rotation='a'"),
        ('<box label=" " xtl="1" ytl="2" xbr="3" ybr="4"/>', "has no label"),
        ('<polygon label="cat" points="1,2;3,4"/>', "at least three points"),
        ('<polygon label="cat" points="1,2;3;5,6"/>', "at least three points"),
        ('<polygon label="cat"/>', "at least three points"),
    ],
)
def test_broken_shape_is_an_error_that_names_its_image(folder: Any, shape: str, fragment: str) -> None:
    write_cvat(folder, {"train/a.png": BOX + shape, "val/b.png": BOX})
    _, report = folder.check(labels=CVAT)
    (error,) = report.errors
    assert (error.kind, error.image, error.annotation_id) == ("broken_entry", "train/a.png", "#1")
    assert fragment in error.message


def test_image_of_two_folders_is_ambiguous(folder: Any) -> None:
    for name in ("one/a.png", "two/a.png"):
        folder.image(name)
    folder.text("annotations.xml", f'<annotations>{META}<image name="a.png">{BOX}</image><image/></annotations>')
    _, report = folder.check(labels=CVAT)
    assert [finding.kind for finding in report.errors][:2] == ["ambiguous_image", "broken_entry"]
    assert "'a.png' may be 'one/a.png' or 'two/a.png'" in report.errors[0].message


def test_points_of_skeletons_are_not_classes_and_unknown_shapes_are_counted(folder: Any) -> None:
    meta = META.replace("</labels>", "<label><name>1</name><type>points</type><parent>body</parent></label></labels>")
    write_cvat(folder, {"train/a.png": BOX + '<cube label="cat"/>', "val/b.png": BOX}, meta=meta)
    index, report = folder.check(labels=CVAT)
    assert [category.name for category in index.categories["things"]] == ["cat", "dog"]
    assert "kind 'cube', which is not a box; 1 of them" in next(
        finding.message for finding in report.warnings if finding.kind == "unsupported_shape"
    )


def test_elements_in_upper_case_are_read_with_a_warning(folder: Any) -> None:
    polygon = '<POLYGON label="dog" points="1,2;5.5,2;3,9"/>'
    write_cvat(folder, {"a.png": BOX.replace("<box", "<Box") + polygon}, path="train.xml")
    write_cvat(folder, {"b.png": BOX + polygon.lower()}, path="val.xml")
    text = (folder.root / "train.xml").read_text()
    folder.text("train.xml", text.replace("<image", "<Image").replace("</image", "</Image"))
    index, report = folder.check(labels=[CVAT[0] | {"path": "{split}.xml"}])
    assert boxes_of(index) == boxes_of(index, "val") == [("cat", (10, 5, 20, 10)), ("dog", (1, 2, 4.5, 7))]
    assert {(finding.kind, finding.severity, finding.message) for finding in report.findings} == {
        (
            "unknown_element",
            "warning",
            f"has <{name}> (1), which is read as <{name.lower()}>; CVAT has lower-case names",
        )
        for name in ("Image", "Box", "POLYGON")
    }


def test_subset_of_an_exported_job_is_its_split(folder: Any) -> None:
    for split in ("train", "val"):
        folder.image(f"{split}.png")
        meta = META.replace("task>", "job>").replace("<job>", f"<job><subset>{split}</subset>")
        image = f'<image name="{split}.png">{BOX}</image>'
        folder.text(f"{split}.xml", f"<annotations>{meta}{image}</annotations>")
    index, report = folder.check(labels=[CVAT[0] | {"path": "{split}.xml"}])
    assert {split: len(records) for split, records in index.records.items()} == {"train": 1, "val": 1}
    assert not report.errors


def test_huge_numbers_are_not_boxes(folder: Any) -> None:
    ellipse = '<ellipse label="cat" cx="1e308" cy="2" rx="1e308" ry="1e308" rotation="45"/>'
    write_cvat(folder, {"train/a.png": BOX + ellipse, "val/b.png": BOX})
    _, report = folder.check(labels=CVAT)
    assert ["write finite numbers" in error.message for error in report.errors] == [True]


def test_two_names_are_never_one_image(folder: Any) -> None:
    folder.image("one/a.png")
    images = f'<image name="one/a.png">{BOX}</image><image name="two/a.png">{BOX}</image>'
    folder.text("annotations.xml", f"<annotations>{META}{images}</annotations>")
    _, report = folder.check(labels=CVAT)
    assert report.errors[0].kind == "ambiguous_image"
    assert "'one/a.png' and 'two/a.png' are both matched to the image 'one/a.png'" in report.errors[0].message
