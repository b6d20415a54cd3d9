"""Missing images are reported by cause, with the value to write."""

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.causes import causes_of
from pipelines.base.errors import DataError

BOX = [{}]


def moved(folder: Any, names: dict[str, str]) -> None:
    """List images in both splits' COCO files, and move those of train; names: the path of each listed file name."""
    folder.coco("val", {"v.png": BOX})
    folder.coco("train", dict.fromkeys(names, BOX))
    for name, place in names.items():
        path = folder.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        (folder.root / "images" / name).rename(path)


def messages(folder: Any, **job: Any) -> list[str]:
    """Return the text of each cause of missing images in train."""
    _, report = folder.check(**job)
    return [
        cause.describe()
        for cause in causes_of(report.errors)
        if cause.findings[0].kind == "missing_image" and cause.findings[0].split == "train"
    ]


def test_names_that_repeat_the_images_folder_get_the_folder_above(folder: Any) -> None:
    moved(folder, {f"images/{letter}.png": f"images/{letter}.png" for letter in "abc"})
    for letter in "abc":
        assert not (folder.root / "images" / "images" / f"{letter}.png").exists()
    [message] = messages(folder)
    assert "images/a.png: is missing in the folder 'images'" in message
    assert "all 3 listed images are found with data.sources.s.images: . (3 times" in message
    assert not messages(folder, images=".")


@pytest.mark.parametrize("place", ["photos", "images/raw", "a b/c"])
def test_images_in_another_folder_get_this_folder(folder: Any, place: str) -> None:
    moved(folder, {f"{letter}.png": f"{place}/{letter}.png" for letter in "abc"})
    [message] = messages(folder)
    assert f"data.sources.s.images: {place if ' ' not in place else chr(34) + place + chr(34)} (3 times" in message
    assert not messages(folder, images=place)


def test_folders_of_splits_get_the_placeholder(folder: Any) -> None:
    moved(folder, {f"{letter}.png": f"images/train/{letter}.png" for letter in "abc"})
    (folder.root / "images" / "val").mkdir()
    (folder.root / "images" / "v.png").rename(folder.root / "images" / "val" / "v.png")
    [message] = messages(folder)
    assert 'data.sources.s.images: "images/{split}" (3 times' in message
    assert not messages(folder, images="images/{split}")


def test_missing_images_folder_gets_the_folder_that_has_the_images(folder: Any) -> None:
    moved(folder, {f"{letter}.png": f"images/{letter}.png" for letter in "abc"})
    [message] = messages(folder, images="pictures")
    assert "the images folder is missing; 3 images are listed in it; all 3 listed images are found with" in message
    assert message.endswith("data.sources.s.images: images")


def test_most_images_in_another_folder_are_counted(folder: Any) -> None:
    moved(folder, {f"{letter}.png": f"photos/{letter}.png" for letter in "abcd"})
    (folder.root / "photos" / "d.png").unlink()
    first, second = messages(folder)
    assert "3 of 4 listed images are found with data.sources.s.images: photos (3 times" in first
    assert second.endswith("add the file, or correct its name in the label file")


@pytest.mark.parametrize(
    ("name", "stored", "difference"),
    [
        ("a.png", "a.PNG", "with the extension '.PNG'"),
        ("a.png", "a.webp", "with the extension '.webp'"),
        ("a.png", "A.png", "in other upper and lower case"),
        ("é.png", unicodedata.normalize("NFD", "é.png"), "stored in another Unicode form"),
        ("b\\a.png", "b/a.png", "with '/' in place of '\\'"),
        ("photos/a.png", "a.png", "without 'photos/'"),
        ("C:\\my\\A.png", "a.png", "with '/' in place of '\\' and without 'C:/my/' and in other upper and lower case"),
    ],
)
def test_difference_of_names_is_explained(folder: Any, name: str, stored: str, difference: str) -> None:
    name = unicodedata.normalize("NFC", name)
    moved(folder, {name: f"images/{stored}", "ok.png": "images/ok.png"})
    [message] = messages(folder)
    assert f"it has {stored!r}, " in message
    assert f"{difference}: correct the name in the label file, or rename the file" in message


def test_many_names_with_one_difference_are_one_line_and_one_finding_each(folder: Any) -> None:
    moved(folder, {f"{number}.png": f"images/{number}.PNG" for number in range(9)})
    [message] = messages(folder)
    assert "(9 times, also at 1.png, 2.png, 3.png, ...)" in message
    _, report = folder.check()
    assert report.count("missing_image") == 9
    with pytest.raises(DataError, match=r"with the extension '.PNG': correct the name .*9 times"):
        report.raise_errors()


def test_image_in_another_folder_than_the_others_is_named(folder: Any) -> None:
    moved(folder, {"a.png": "images/a.png", "b.png": "images/b.png", "c.png": "other/c.png"})
    [message] = messages(folder)
    assert "the data root has 'other/c.png': move it there" in message


def test_voc_images_with_another_extension_in_another_folder_get_this_folder(folder: Any) -> None:
    for name in ("a", "b"):
        folder.text(f"Annotations/{name}.xml", "<annotation><filename/></annotation>")
    folder.text("ImageSets/Main/train.txt", "a\nb\n")
    moved(folder, {"a.png": "photos/a.png", "b.png": "photos/b.png"})
    [message] = messages(folder, labels=[{"format": "voc", "tasks": ["things"]}])
    assert "all 2 listed images are found with data.sources.s.images: photos" in message


def test_skipped_images_keep_the_advice(folder: Any) -> None:
    moved(folder, {"a.png": "images/a.png", "b.png": "images/B.png"})
    _, report = folder.check(on_error="skip")
    [finding] = [finding for finding in report.warnings if finding.kind == "missing_image"]
    assert finding.message.endswith(
        "in other upper and lower case: correct the name in the label file, or rename the file; it is skipped"
    )


def test_hidden_and_linked_files_are_not_proposed(folder: Any, tmp_path: Path) -> None:
    moved(folder, {"a.png": ".trash/a.png"})
    [message] = messages(folder)
    assert message.endswith("add the file, or correct its name in the label file")
