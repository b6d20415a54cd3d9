"""Findings about images: causes, messages, and the handling of the images."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.base.errors import DataError
from pipelines.base.findings import KINDS
from pipelines.data.dataset.checks.text import render_report

GOOD = {"b.png": [{}]}
CSV = {"format": "csv", "path": "labels.csv", "split_column": "split", "column": "kind"}


def kinds(report: Any) -> set[str]:
    return {finding.kind for finding in report.findings}


def only(report: Any, kind: str) -> Any:
    """Return the finding of a kind, which is the only one of its severity."""
    same = [finding for finding in report.findings if finding.severity == KINDS[kind].severity]
    assert [finding.kind for finding in same] == [kind], render_report(report)
    return same[0]


def test_missing_image_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}], "gone.png": [{}, {}]})
    folder.coco("val", GOOD)
    (folder.root / "images" / "gone.png").unlink()
    index, report = folder.check()
    assert only(report, "missing_image").image == "gone.png"
    assert [record.file_name for record in index.records["train"]] == ["a.png"]
    assert report.layers[0].unusable_image == 2
    assert (report.images["train"].listed, report.images["train"].unusable) == (2, 1)
    with pytest.raises(DataError, match=r"train.json, gone.png: is missing in the folder 'images'"):
        report.raise_errors()


def test_missing_images_folder_is_one_finding(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}], "c.png": [{}]})
    folder.coco("val", GOOD)
    _, report = folder.check(images="pictures")
    assert report.count("missing_image") == 2
    assert "2 images are listed in it" in report.errors[0].message


def test_unreadable_image_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}], "cut.png": [{}], "text.png": []})
    folder.coco("val", GOOD)
    cut = folder.root / "images" / "cut.png"
    Image.effect_noise((60, 40), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[:-200])
    folder.text("images/text.png", "not an image")
    _, report = folder.check()
    assert [(finding.kind, finding.file) for finding in report.errors] == [
        ("unreadable_image", "images/cut.png"),
        ("unreadable_image", "images/text.png"),
    ]


def test_mis_sized_image_is_a_warning_and_its_measured_size_is_used(folder: Any) -> None:
    folder.image("a.png", size_hw=(60, 40))
    folder.coco("train", {"a.png": [{"bbox": [0, 45, 5, 5]}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert only(report, "mis_sized_image").message == (
        "is 40 x 60, declared as 60 x 40; width and height are swapped: see data.sources.s.exif"
    )
    assert (index.records["train"][0].height, index.records["train"][0].width) == (60, 40)


def test_exif_decides_the_size_of_an_image(folder: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder.root / "images").mkdir()
    Image.new("RGB", (40, 60)).save(folder.root / "images" / "a.jpg", exif=exif)
    folder.coco("train", {"a.jpg": [{}]})
    folder.coco("val", GOOD)
    assert kinds(folder.check(exif="apply")[1]) == set()
    assert kinds(folder.check(exif="ignore")[1]) == {"mis_sized_image"}


def test_same_content_of_images_in_two_splits_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}], "c.png": [{}]})
    folder.coco("val", {"other_name.png": [{}]})
    (folder.root / "images/other_name.png").write_bytes((folder.root / "images/a.png").read_bytes())
    _, report = folder.check()
    finding = only(report, "same_image_in_splits")
    assert finding.file == "images/a.png"
    assert "images/other_name.png (s, val)" in finding.message


def test_same_image_in_two_splits_of_two_sources_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    folder.text("labels.csv", "file_name,split,kind\nb.png,train,day\na.png,val,day\n")
    sources = {
        "one": {"images": "images", "labels": folder.labels},
        "two": {"images": "images", "labels": [CSV | {"tasks": ["kind"]}]},
    }
    _, report = folder.check(sources=sources, tasks=folder.tasks | {"kind": {"head": "multilabel"}})
    assert report.count("same_image_in_splits") == 2


def test_same_image_in_two_sources_of_a_split_is_a_warning(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    source = {"images": "images", "labels": folder.labels}
    _, report = folder.check(sources={"one": source, "two": source})
    assert kinds(report) == {"same_image_in_split"}
    assert report.findings[0].message == "is the same image as images/a.png (two, train)"


def test_unlabeled_images_are_reported_and_skipped(folder: Any) -> None:
    folder.image("unlisted.png")
    folder.image("deep/unlisted.jpg")
    folder.image("blank.png")
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    folder.text("labels.csv", "file_name,split,kind\na.png,train,day\nblank.png,train,\nb.png,val,day\n")
    labels = [*folder.labels, CSV | {"tasks": ["kind"]}]
    index, report = folder.check(labels=labels, tasks=folder.tasks | {"kind": {"head": "multiclass"}})
    assert {finding.file for finding in report.findings if finding.kind == "unlisted_image"} == {
        "images/unlisted.png",
        "images/deep/unlisted.jpg",
    }
    assert [finding.image for finding in report.findings if finding.kind == "unlabelled_image"] == ["blank.png"]
    assert report.images["train"].unlabeled == 1
    assert [record.file_name for record in index.records["train"]] == ["a.png"]
    assert not report.errors


@pytest.mark.parametrize("file_name", ["../a.png", "/etc/passwd", "x/../../a.png"])
def test_file_name_that_leaves_the_images_is_an_error(folder: Any, file_name: str) -> None:
    folder.image("c.png")
    folder.text("a.png", "outside")
    images = [{"id": 1, "file_name": file_name}, {"id": 2, "file_name": "c.png"}]
    folder.coco(
        "train", {}, images=images, annotations=[{"id": 1, "image_id": 2, "category_id": 5, "bbox": [0, 0, 1, 1]}]
    )
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert only(report, "unsafe_path").file == "train.json"
    assert [record.file_name for record in index.records["train"]] == ["c.png"]


def test_link_out_of_the_images_is_an_error_and_one_inside_is_followed(folder: Any, tmp_path: Path) -> None:
    folder.coco("train", {"a.png": [{}], "out.png": [{}], "in.png": [{}], "dir/b.png": [{}]})
    folder.coco("val", {"v.png": [{}]})
    for name in ("out.png", "in.png", "dir/b.png"):
        (folder.root / "images" / name).unlink()
    (folder.root / "images/dir").rmdir()
    folder.image("../elsewhere/o.png")
    folder.image("kept/i.png")
    folder.image("../elsewhere/b.png")
    (folder.root / "images/out.png").symlink_to(folder.root / "elsewhere/o.png")
    (folder.root / "images/in.png").symlink_to("kept/i.png")
    (folder.root / "images/dir").symlink_to(folder.root / "elsewhere")
    index, report = folder.check()
    assert [(finding.kind, finding.image) for finding in report.errors] == [
        ("unsafe_path", "out.png"),
        ("unsafe_path", "dir/b.png"),
    ]
    assert [record.file_name for record in index.records["train"]] == ["a.png", "in.png"]
    assert index.records["train"][1].path == folder.root.resolve() / "images/kept/i.png"


def test_image_id_of_two_files_is_an_error_and_a_file_with_two_ids_is_a_warning(folder: Any) -> None:
    document = folder.coco("train", {"a.png": [{}], "c.png": [{}], "d.png": []})
    document["images"][1]["id"] = 100
    document["images"] += [{"id": 555, "file_name": "./a.png"}, {"id": 555, "file_name": "a.png"}]
    folder.text("train.json", json.dumps(document))
    folder.coco("val", GOOD)
    _, report = folder.check()
    assert [finding.kind for finding in report.errors] == ["ambiguous_image", "unknown_image"]
    assert report.count("repeated_image") == 2
