"""Folders are recognized whatever their layout: nested, with missing splits, with names that other tools choose."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import DataError
from pipelines.data.drafting.readings import find_readings
from tests.pipelines.data.drafting import exports
from tests.pipelines.data.drafting.exports import coco_file, text, voc_file, write_image, yolo_rows

TRAIN = {"train": "train"}


def images(root: Path, folder: str, numbers: range) -> list[str]:
    for number in numbers:
        write_image(root / folder / f"{number:03d}.png", number)
    return [f"{number:03d}" for number in numbers]


def nested_folders(root: Path) -> None:
    exports.write_coco(root / "a b/inner")


def only_train_of_roboflow(root: Path) -> None:
    text(root / "train/_annotations.coco.json", coco_file(range(3)))
    images(root, "train", range(3))


def only_a_file_named_val(root: Path) -> None:
    text(root / "val.json", coco_file(range(3)))
    images(root, "photos", range(3))


def equal_names_in_all_splits(root: Path) -> None:
    for split, numbers in (("train", range(4)), ("val", range(3))):
        text(root / f"{split}.json", coco_file(numbers))
        images(root, f"images/{split}", numbers)


def folder_in_the_file_names(root: Path) -> None:
    text(root / "labels.json", coco_file(range(3), "photos/"))
    images(root, "photos", range(3))


def val_that_is_train(root: Path) -> None:
    text(root / "coco8.yaml", "path: ../datasets/coco8\ntrain: images/train\nval: images/train\nnames: [cat, dog]\n")
    for name in images(root, "images/train", range(3)):
        text(root / f"labels/train/{name}.txt", yolo_rows(int(name)))


def yolo_files_beside_the_images(root: Path) -> None:
    for name in images(root, ".", range(3)):
        text(root / f"{name}.txt", yolo_rows(int(name)))


def voc_files_beside_the_images(root: Path) -> None:
    for split, numbers in (("train", range(3)), ("valid", range(3, 5))):
        for name in images(root, split, numbers):
            text(root / split / f"{name}.xml", voc_file(int(name)))


def tables_by_split(root: Path) -> None:
    for split in ("train", "test"):
        names = images(root, split, range(4))
        text(root / f"{split}.csv", "id,breed\n" + "".join(f"{name}.png,{'ab'[int(name) % 2]}\n" for name in names))


def split_folders_with_other_names(root: Path) -> None:
    for split in ("Training", "Testing"):
        images(root, f"brain/{split}/yes", range(2))
        images(root, f"brain/{split}/no", range(2))


@pytest.mark.parametrize(
    ("write", "format_", "place", "splits"),
    [
        (nested_folders, "coco", "a b/inner/{split}", {split: f"{split}2017" for split in exports.SPLITS}),
        (only_train_of_roboflow, "coco", "train", TRAIN),
        (only_a_file_named_val, "coco", "photos", TRAIN),
        (equal_names_in_all_splits, "coco", "images/{split}", TRAIN | {"val": "val"}),
        (folder_in_the_file_names, "coco", ".", TRAIN),
        (val_that_is_train, "yolo", "images/train", TRAIN),
        (yolo_files_beside_the_images, "yolo", ".", TRAIN),
        (voc_files_beside_the_images, "voc", "{split}", TRAIN | {"val": "valid"}),
        (tables_by_split, "csv", "{split}", TRAIN | {"test": "test"}),
        (split_folders_with_other_names, "image_folder", "brain", {"train": "Training", "test": "Testing"}),
    ],
)
def test_layout_is_recognized(
    write: Callable[[Path], None], format_: str, place: str, splits: Any, tmp_path: Path
) -> None:
    write(tmp_path)
    (reading,) = find_readings(tmp_path)
    assert (reading.format, reading.images, dict(reading.splits)) == (format_, place, splits)


def test_image_sets_by_class_do_not_hide_those_of_splits(tmp_path: Path) -> None:
    exports.write_voc(tmp_path)
    for name in ("Main/cat_train", "Main/trainval", "Segmentation/train"):
        text(tmp_path / f"ImageSets/{name}.txt", "000\n")
    (reading,) = find_readings(tmp_path)
    assert reading.fields["image_sets"] == "ImageSets/Main/{split}.txt"
    assert dict(reading.splits) == {split: split for split in exports.SPLITS}


def test_yaml_file_of_the_user_is_not_replaced(tmp_path: Path) -> None:
    yolo_files_beside_the_images(tmp_path)
    text(tmp_path / "data.yaml", "a: 1\n")
    (reading,) = find_readings(tmp_path)
    assert list(reading.new_files) == [reading.fields["path"]] == ["yolo_1.yaml"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("classes.csv", "file,cat,dog\n000.png,0,1\n001.png,1,0\n002.png,1,0\n", "one column for each class"),
        ("boxes.csv", "file,class,xmin,ymin,xmax,ymax\n000.png,cat,1,2,3,4\n", "convert it to COCO"),
        ("min.json", json.dumps([{"image": "000.png", "annotator": 1, "annotation_id": 2}]), "as 'JSON'"),
        ("video.xml", "<annotations><track/></annotations>", "as 'CVAT for images 1.1'"),
    ],
)
def test_label_file_that_no_format_reads_is_explained(name: str, content: str, words: str, tmp_path: Path) -> None:
    images(tmp_path, ".", range(3))
    text(tmp_path / name, content)
    with pytest.raises(DataError, match=words):
        find_readings(tmp_path)


def test_images_and_masks_are_not_classes(tmp_path: Path) -> None:
    images(tmp_path, "images", range(3))
    images(tmp_path, "masks", range(3))
    with pytest.raises(DataError, match="no labels of a known format"):
        find_readings(tmp_path)


def test_names_that_are_not_utf8_do_not_stop_the_recognition(tmp_path: Path) -> None:
    exports.write_coco_without_splits(tmp_path)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(b"x")
    (reading,) = find_readings(tmp_path)
    assert reading.format == "coco"
