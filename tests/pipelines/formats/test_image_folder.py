"""Image folders are read."""

from typing import Any

KIND = {"kind": {"head": "multiclass"}}


def test_first_folder_of_an_image_is_its_class(folder: Any) -> None:
    for name in ("train/day/a.png", "train/night/deep/b.JPG", "train/loose.png", "valid/day/c.png"):
        folder.image(name)
    (folder.root / "images/train/dusk").mkdir()
    labels = [{"format": "image_folder", "tasks": ["kind"]}]
    splits = {"train": "train", "val": "valid", "test": "test"}
    index, report = folder.check(labels=labels, tasks=KIND, splits=splits)
    assert {record.file_name: record.labels["kind"] for record in index.records["train"]} == {
        "train/day/a.png": ["day"],
        "train/night/deep/b.JPG": ["night"],
    }
    assert [category.name for category in index.categories["kind"]] == ["day", "dusk", "night"]
    assert {finding.kind for finding in report.findings} == {"unlabelled_image", "unused_category"}
    assert "test" not in index.records


def test_images_folder_of_each_split_can_contain_the_class_folders(folder: Any) -> None:
    for name in ("../train/day/a.png", "../val/day/a.png"):
        folder.image(name)
    labels = [{"format": "image_folder", "path": ".", "tasks": ["kind"]}]
    index, report = folder.check(labels=labels, tasks=KIND, images="{split}")
    assert [record.file_name for split in index.records.values() for record in split] == ["day/a.png"] * 2
    assert not report.findings


def test_folders_and_files_that_archive_tools_add_are_ignored(folder: Any) -> None:
    for name in ("train/day/a.png", "val/day/b.png"):
        folder.image(name)
    for name in ("train/__MACOSX/day/._a.png", "train/day/._a.png", "train/@eaDir/a.png", "__MACOSX/train/day/a.png"):
        folder.text(f"images/{name}", "resource fork")
    index, report = folder.check(labels=[{"format": "image_folder", "tasks": ["kind"]}], tasks=KIND)
    assert [category.name for category in index.categories["kind"]] == ["day"]
    assert [record.file_name for record in index.records["train"]] == ["train/day/a.png"]
    assert not report.findings
