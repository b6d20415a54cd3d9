"""`data.on_error: skip`: images that cannot be used are left out as if no label file listed them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.base.errors import DataError
from pipelines.data.dataset.checks.text import render_report
from pipelines.run_folder.schemas import DataReportFile
from tests.pipelines.data_folder import DataFolder

TRAIN = {"a.png": [{}], "bad.png": [{}, {}], "c.png": [{}]}
VAL = {"v.png": [{}], "w.png": [{}]}
Defect = Callable[[Path], object]


def cut(path: Path) -> None:
    Image.effect_noise((60, 40), 50).save(path)
    path.write_bytes(path.read_bytes()[:-200])


DEFECTS: dict[str, tuple[str, Defect]] = {
    "missing": ("missing_image", Path.unlink),
    "empty": ("unreadable_image", lambda path: path.write_bytes(b"")),
    "text": ("unreadable_image", lambda path: path.write_text("<html>not found</html>")),
    "cut": ("unreadable_image", cut),
}


@pytest.fixture
def damaged(folder: DataFolder, request: pytest.FixtureRequest) -> DataFolder:
    """Return data with one image that has the requested defect."""
    folder.coco("train", TRAIN)
    folder.coco("val", VAL)
    DEFECTS[request.param][1](folder.root / "images/bad.png")
    return folder


@pytest.mark.parametrize(
    ("damaged", "kind"), [(name, kind) for name, (kind, _) in DEFECTS.items()], indirect=["damaged"]
)
def test_unusable_image_is_skipped_counted_and_listed(damaged: Any, kind: str, tmp_path: Path) -> None:
    index, report = damaged.check(on_error="skip")
    report.raise_errors()
    assert [record.file_name for record in index.records["train"]] == ["a.png", "c.png"]
    assert (report.images["train"].listed, report.images["train"].in_index, report.images["train"].skipped) == (3, 2, 1)
    assert (report.layers[0].read, report.layers[0].kept, report.layers[0].skipped_image) == (4, 2, 2)
    skipped = [{"file": "images/bad.png", "split": "train", "kind": kind}]
    assert report.left_out.model_dump() == {"num_skipped": 1, "skipped": skipped}
    assert [(finding.kind, finding.severity) for finding in report.findings] == [(kind, "warning")]
    text = render_report(report)
    assert "; it is skipped" in text
    assert "1 skipped image (data.on_error: skip)" in text
    report.write(tmp_path / "report.json")
    written = DataReportFile.read(tmp_path / "report.json")
    assert (written.num_skipped, written.skipped, written.splits["train"]["skipped"]) == (1, skipped, 1)


@pytest.mark.parametrize("damaged", ["cut", "missing"], indirect=True)
def test_skipped_image_counts_as_absent(damaged: Any) -> None:
    skipping, report = damaged.check(on_error="skip")
    damaged.coco("train", {name: boxes for name, boxes in TRAIN.items() if name != "bad.png"})
    # The helper numbers images by position, so the absent image shifts the ids of the file.
    document = json.loads((damaged.root / "train.json").read_text())
    document["images"][1]["id"] = 102
    document["annotations"][1] |= {"image_id": 102, "id": 1003}
    damaged.text("train.json", json.dumps(document))
    (damaged.root / "images/bad.png").unlink(missing_ok=True)
    without, expected = damaged.check()
    assert skipping == without
    assert report.fingerprints == expected.fingerprints


def test_numbered_ids_do_not_depend_on_skipped_images(folder: Any) -> None:
    folder.coco("train", TRAIN)
    document = json.loads((folder.root / "train.json").read_text())
    for entry in document["images"]:
        entry["id"] = f"id {entry['id']}"
    for entry in document["annotations"]:
        entry["image_id"] = f"id {entry['image_id']}"
    folder.text("train.json", json.dumps(document))
    folder.coco("val", VAL)
    (folder.root / "images/bad.png").unlink()
    index, _ = folder.check(on_error="skip")
    assert [record.image_id for split in ("train", "val") for record in index.records[split]] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("splits", "kept"), [(("train", "val", "test"), "test"), (("train", "val"), "val"), (("train", "test"), "test")]
)
def test_image_in_several_splits_is_kept_in_test_then_val_then_train(folder: Any, splits: Any, kept: str) -> None:
    for split in ("train", "val", "test"):
        copies = {f"{split}_copy.png": [{}], f"{split}_again.png": [{}]} if split in splits else {}
        folder.coco(split, {f"{split}.png": [{}], **copies})
    paths = [path for path in (folder.root / "images").iterdir() if "_" in path.name]
    for path in paths:
        path.write_bytes(paths[0].read_bytes())
    index, report = folder.check(on_error="skip")
    report.raise_errors()
    assert {split: len(records) for split, records in index.records.items()} == {
        split: 3 if split == kept else 1 for split in ("train", "val", "test")
    }
    assert {(image.split, image.kind) for image in report.skipped} == {
        (split, "same_image_in_splits") for split in splits if split != kept
    }
    assert report.count("same_image_in_split") == 1
    assert f"images/{kept}_again.png (s, {kept}), which is kept; it is skipped" in render_report(report)


def test_labels_of_skipped_images_are_neither_categories_nor_findings(folder: Any) -> None:
    csv = {"format": "csv", "path": "labels.csv", "split_column": "split", "column": "kind", "tasks": ["kind"]}
    rows = "a.png,train,day\nb.png,train,night\nc.png,train,only here\nd.png,val,day\ne.png,val,night\n"
    for name in "abde":
        folder.image(f"{name}.png")
    folder.text("images/c.png", "text")
    folder.text("labels.csv", f"file_name,split,kind\n{rows}")
    settings = {"labels": [csv], "tasks": {"kind": {"head": "multiclass"}}}
    index, report = folder.check(on_error="skip", **settings)
    assert [category.name for category in index.categories["kind"]] == ["day", "night"]
    assert [finding.kind for finding in report.findings] == ["unreadable_image"]
    assert report.layers[0].skipped_image == 1


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_split_without_remaining_images_is_an_error(folder: Any, split: str) -> None:
    for name in ("train", "val", "test"):
        folder.coco(name, {f"{name}.png": [{}]})
    (folder.root / f"images/{split}.png").unlink()
    _, report = folder.check(on_error="skip")
    (error,) = [finding for finding in report.errors if finding.kind == "empty_split"]
    assert error.split == split
    assert error.message.endswith("; 1 of its 1 images are skipped (data.on_error: skip)")


def test_task_without_remaining_labels_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [], "bad.png": [{}]})
    folder.coco("val", VAL)
    folder.text("images/bad.png", "text")
    _, report = folder.check(on_error="skip")
    assert [finding.kind for finding in report.errors] == ["no_labels"]


def test_label_errors_unsafe_paths_and_missing_folders_still_stop(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"category_id": 77}, {"bbox": [1]}, {}]})
    folder.coco("val", VAL)
    assert {finding.kind for finding in folder.check(on_error="skip")[1].errors} == {"unknown_category", "broken_entry"}
    folder.coco("train", {}, images=[{"id": 1, "file_name": "../v.png"}, {"id": 2, "file_name": "a.png"}])
    assert "unsafe_path" in {finding.kind for finding in folder.check(on_error="skip")[1].errors}
    _, report = folder.check(on_error="skip", images="pictures")
    assert {finding.kind for finding in report.errors} >= {"missing_image", "empty_split"}
    assert report.remedy is None
    assert not report.skipped


def test_skipped_files_are_not_reported_as_unlisted(folder: Any) -> None:
    folder.coco("train", TRAIN)
    folder.coco("val", VAL)
    folder.text("images/bad.png", "text")
    assert folder.check(on_error="skip")[1].count("unlisted_image") == 0


def test_errors_name_the_setting_once(folder: Any) -> None:
    folder.coco("train", TRAIN)
    folder.coco("val", VAL)
    for name in ("a.png", "bad.png"):
        (folder.root / "images" / name).unlink()
    _, report = folder.check()
    with pytest.raises(DataError) as caught:
        report.raise_errors()
    (remedy,) = [line for line in str(caught.value).splitlines() if "on_error" in line]
    assert remedy == "data.on_error: write skip to leave out such images instead of stopping (2 missing images)"


def test_errors_about_labels_do_not_name_the_setting(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"category_id": 77}, {}]})
    folder.coco("val", VAL)
    assert folder.check()[1].remedy is None
