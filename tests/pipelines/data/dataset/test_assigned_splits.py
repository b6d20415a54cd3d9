"""A split file assigns the images of one set of labels to splits, whatever the label format."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.data.dataset.checks.text import render_report

POOL = {"labels": [{"format": "coco", "path": "train.json", "tasks": ["things"]}], "split_file": "splits.csv"}
ROWS = "file_name,split\nimages/a.png,train\nimages/b.png,val\nimages/c.png,test\n"


def names(index: Any) -> dict[str, list[str]]:
    return {split: [record.file_name for record in records] for split, records in index.records.items()}


def write_pool(folder: Any, rows: str = ROWS) -> None:
    folder.coco("train", {"a.png": [{}], "b.png": [{}, {"bbox": [9, 9, 9, 9]}], "c.png": [{}]})
    folder.text("splits.csv", rows)


def test_images_of_one_label_file_get_the_splits_of_the_split_file(folder: Any) -> None:
    write_pool(folder)
    index, report = folder.check(**POOL)
    assert report.findings == [], render_report(report)
    assert names(index) == {"train": ["a.png"], "val": ["b.png"], "test": ["c.png"]}
    assert [(layer.split, layer.read) for layer in report.layers] == [("train", 1), ("val", 2), ("test", 1)]
    assert [record.image_id for records in index.records.values() for record in records] == [100, 101, 102]


def test_split_file_assigns_the_images_of_every_format(folder: Any) -> None:
    write_pool(folder)
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for name in "abc":
        folder.text(f"Annotations/{name}.xml", f"<annotation><object><name>cat</name>{box}</object></annotation>")
    folder.text("labels.csv", "file_name,kind\na.png,day\nb.png,night\nc.png,day\n")
    labels = [
        {"format": "voc", "image_sets": None, "tasks": ["things"]},
        {"format": "csv", "path": "labels.csv", "column": "kind", "tasks": ["kind"]},
    ]
    tasks = folder.tasks | {"kind": {"head": "multiclass"}}
    index, report = folder.check(**POOL | {"labels": labels}, tasks=tasks)
    assert not report.errors, render_report(report)
    assert names(index) == {"train": ["a.png"], "val": ["b.png"], "test": ["c.png"]}
    assert all(list(record.labels) == ["kind", "things"] for records in index.records.values() for record in records)


def test_class_folders_are_divided(folder: Any) -> None:
    for name in ("cat/a.png", "dog/b.png", "cat/c.png"):
        folder.image(name)
    folder.text(
        "splits.csv", ROWS.replace("images/a", "images/cat/a").replace("/b", "/dog/b").replace("/c.", "/cat/c.")
    )
    labels = [{"format": "image_folder", "path": ".", "tasks": ["kind"]}]
    index, report = folder.check(**POOL | {"labels": labels}, tasks={"kind": {"head": "multiclass"}})
    assert names(index) == {"train": ["cat/a.png"], "val": ["dog/b.png"], "test": ["cat/c.png"]}
    assert {finding.kind for finding in report.findings} == {"not_in_train"}


def test_images_keep_their_folder_of_the_split_on_disk(folder: Any) -> None:
    for split, name in (("train", "a.png"), ("train", "b.png"), ("test", "a.png")):
        folder.image(f"{split}/{name}")
    for split, listed in (("train", ["a.png", "b.png"]), ("test", ["a.png"])):
        folder.coco(split, {f"{split}/{name}": [{}] for name in listed})
        text = (folder.root / f"{split}.json").read_text().replace(f"{split}/", "")
        folder.text(f"{split}.json", text)
    folder.text(
        "splits.csv", "file_name,split\nimages/train/a.png,train\nimages/train/b.png,val\nimages/test/a.png,test\n"
    )
    source = {"images": "images/{split}", "labels": folder.labels, "split_file": "splits.csv"}
    index, report = folder.check(sources={"s": source | {"splits": {"train": "train", "test": "test"}}})
    assert report.findings == [], render_report(report)
    paths = [
        record.path.relative_to(folder.root).as_posix() for records in index.records.values() for record in records
    ]
    assert paths == ["images/train/a.png", "images/train/b.png", "images/test/a.png"]


def test_label_file_without_a_split_in_its_path_is_used_once(folder: Any) -> None:
    write_pool(folder)
    index, report = folder.check(**POOL, splits={"train": "train", "val": "val"})
    assert report.findings == []
    assert [len(records) for records in index.records.values()] == [1, 1, 1]


def test_image_listed_for_two_splits_on_disk_keeps_its_first_labels(folder: Any) -> None:
    write_pool(folder)
    folder.coco("test", {"c.png": [{}], "d.png": [{}]})
    folder.text("splits.csv", f"{ROWS}images/d.png,test\n")
    index, report = folder.check(split_file="splits.csv", splits={"train": "train", "test": "test"})
    assert [finding.kind for finding in report.findings] == ["repeated_image"]
    assert names(index)["test"] == ["c.png", "d.png"]
    assert [len(record.labels["things"]) for record in index.records["test"]] == [1, 1]


@pytest.mark.parametrize(
    ("rows", "kind", "words"),
    [
        (None, "missing_label_file", "data split"),
        ("name,split\na,train\n", "broken_label_file", "file_name"),
        (f"{ROWS}images/a.png,val\n", "broken_entry", "is in train and in val"),
        (f"{ROWS}images/a.png,valid\n", "broken_entry", "'valid'; write train, val or test"),
        (f"{ROWS},val\n", "broken_entry", "empty"),
        ('file_name,split\n"a,train\n', "broken_label_file", "CSV"),
        ("", "broken_label_file", "is empty; write it again with `pyramidion data split --force`"),
        ("file_name,split, split\na,train,val\n", "broken_label_file", "has 2 columns 'split'"),
        (f"{ROWS}images/d.png,val,x\n", "broken_entry", "has 3 cells, the header has 2"),
        (ROWS.replace("train", "tra\0in"), "broken_label_file", "as UTF-16 has"),
        (f"{ROWS}images/d.png,val\n", "unused_split", "1 row names an image that no label file lists"),
        (ROWS.replace("images/c.png,test\n", ""), "unassigned_image", "--keep"),
    ],
)
def test_problem_of_a_split_file_is_a_finding(folder: Any, rows: str | None, kind: str, words: str) -> None:
    write_pool(folder, rows or "")
    if rows is None:
        (folder.root / "splits.csv").unlink()
    _, report = folder.check(**POOL)
    (finding,) = (finding for finding in report.findings if finding.kind == kind)
    assert finding.file == "splits.csv"
    assert words in finding.message


def test_split_file_is_a_table_with_any_separator_and_a_byte_order_mark(folder: Any) -> None:
    write_pool(folder, "\ufeff" + ROWS.replace(",", "; ").replace("\n", "\r\n ;\r\n"))
    index, report = folder.check(**POOL)
    assert report.findings == [], render_report(report)
    assert names(index) == {"train": ["a.png"], "val": ["b.png"], "test": ["c.png"]}


def test_folder_in_place_of_the_split_file_is_an_error(folder: Any) -> None:
    write_pool(folder)
    (folder.root / "splits.csv").unlink()
    (folder.root / "splits.csv").mkdir()
    finding = next(one for one in folder.check(**POOL)[1].errors if one.file == "splits.csv")
    assert finding.message == "is a folder; name a CSV file as split_file, or rename the folder"


def test_split_file_outside_of_the_root_is_refused(folder: Any) -> None:
    write_pool(folder)
    with pytest.raises(ValidationError, match="without"):
        folder.job(**POOL | {"split_file": "../splits.csv"})
    (folder.root / "splits.csv").unlink()
    (folder.root / "splits.csv").symlink_to("/etc/hosts")
    _, report = folder.check(**POOL)
    assert "unsafe_path" in {finding.kind for finding in report.errors}


def test_missing_val_split_is_one_sentence_with_the_remedy(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    _, report = folder.check(splits={"train": "train"})
    assert [str(finding) for finding in report.errors] == [
        "the data has no val split: divide the images with `pyramidion data split --write`, or set "
        "data.sources.s.splits.val to its name on disk"
    ]


def test_source_without_a_split_file_names_the_usual_splits(folder: Any) -> None:
    assert folder.job().data.sources["s"].splits == {"train": "train", "val": "val", "test": "test"}
    assert folder.job(split_file="splits.csv").data.sources["s"].splits == {"train": "train"}
    document = folder.job(split_file="splits.csv").model_dump(mode="json")
    assert json.loads(json.dumps(document))["data"]["sources"]["s"]["split_file"] == "splits.csv"
