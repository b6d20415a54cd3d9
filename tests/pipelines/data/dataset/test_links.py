"""Data sets whose images are links to other folders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.links import LINKS_VARIABLE, set_link_policy

FOLDERS = [{"format": "image_folder", "tasks": ["kind"]}]


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    set_link_policy(follow=True, environ={})
    yield
    set_link_policy(follow=False, environ={LINKS_VARIABLE: "refuse"})


def test_linked_images_folder_and_linked_files_are_read(folder: Any, tmp_path: Path) -> None:
    folder.coco("train", {"a.png": [{}], "deep/b.png": [{}]})
    folder.coco("val", {"v.png": [{}]})
    expected, expected_report = folder.check()
    images = folder.root / "images"
    (images / "a.png").rename(tmp_path / "other.png")
    (images / "a.png").symlink_to(tmp_path / "other.png")
    (images / "broken.png").symlink_to(tmp_path / "gone.png")
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    images.rename(elsewhere)
    images.symlink_to(elsewhere)
    index, report = folder.check()
    report.raise_errors()
    assert report.fingerprints == expected_report.fingerprints
    assert [record.file_name for record in index.records["train"]] == [r.file_name for r in expected.records["train"]]
    assert not report.findings


def test_linked_class_folders_are_read(folder: Any, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for split in ("train", "val"):
        for name in ("day", "night"):
            folder.image(f"../elsewhere/{split}-{name}/{split}-{name}.png")
            (folder.root / "images" / split).mkdir(parents=True, exist_ok=True)
            (folder.root / "images" / split / name).symlink_to(elsewhere / f"{split}-{name}")
    index, report = folder.check(labels=FOLDERS, tasks={"kind": {"head": "multiclass"}})
    report.raise_errors()
    assert [record.labels["kind"] for record in index.records["train"]] == [["day"], ["night"]]
