"""Layers are joined, and images and annotations get their ids."""

import json
from typing import Any

from pipelines.base.records import Category


def test_layers_are_joined_by_relative_path(folder: Any) -> None:
    folder.coco("train", {"./x//a.png": [{}], "c.png": []})
    folder.coco("val", {"b.png": [{}]})
    folder.image("d.png")
    folder.text("l.csv", "file_name,split,kind\nx/a.png,train,day\nd.png,train,night\nb.png,val,\n")
    csv = {"format": "csv", "path": "l.csv", "split_column": "split", "column": "kind", "tasks": ["kind"]}
    index, _ = folder.check(labels=[*folder.labels, csv], tasks=folder.tasks | {"kind": {"head": "multiclass"}})
    labels = {record.file_name: sorted(record.labels) for record in index.records["train"]}
    assert labels == {"c.png": ["things"], "d.png": ["kind"], "x/a.png": ["kind", "things"]}
    assert index.records["train"][0].labels["things"] == []
    assert sorted(index.records["val"][0].labels) == ["things"]


def test_single_source_keeps_its_ids_and_images_without_an_id_get_the_next_numbers(folder: Any) -> None:
    folder.coco("train", {"z.png": [{}], "a.png": [{}]})
    folder.coco("val", {"b.png": [{}]})
    folder.image("0.png")
    folder.text("l.csv", "file_name,split,kind\n0.png,train,day\nb.png,val,day\n")
    csv = {"format": "csv", "path": "l.csv", "split_column": "split", "column": "kind", "tasks": ["kind"]}
    index, _ = folder.check(labels=[*folder.labels, csv], tasks=folder.tasks | {"kind": {"head": "multiclass"}})
    ids = {record.file_name: record.image_id for split in index.records.values() for record in split}
    assert ids == {"z.png": 100, "a.png": 101, "b.png": 200, "0.png": 201}
    kept = [record.labels["things"][0].annotation_id for record in index.records["train"] if "things" in record.labels]
    assert kept == [1001, 1000]


def test_two_sources_are_numbered_over_all_splits(folder: Any) -> None:
    folder.coco("train", {"z.png": [{}], "a.png": [{}, {}]})
    folder.coco("val", {"b.png": [{}]})
    for split, name in (("train", "c.png"), ("val", "d.png")):
        folder.image(f"../more/{name}")
        image = {"id": 1, "file_name": name}
        box = {"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 1, 2, 2]}
        document = {"images": [image], "annotations": [box], "categories": [{"id": 5, "name": "cat"}]}
        folder.text(f"more_{split}.json", json.dumps(document))
    sources = {
        "second": {"images": "more", "labels": [folder.labels[0] | {"path": "more_{split}.json"}]},
        "first": {"images": "images", "labels": folder.labels},
    }
    index, report = folder.check(sources=sources)
    found = [(r.image_id, r.file_name, [b.annotation_id for b in r.labels["things"]]) for r in index.records["train"]]
    assert found == [(1, "a.png", [1, 2]), (2, "z.png", [3]), (3, "c.png", [4])]
    assert [record.image_id for record in index.records["val"]] == [4, 5]
    assert index.categories["things"] == [Category(1, "cat")]
    assert report.count("duplicate_box") == 1


def test_two_sources_are_numbered_even_if_their_ids_differ(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", {"b.png": [{}]})
    layer = folder.labels[0]
    sources = {
        "train": {"images": "images", "labels": [layer], "splits": {"train": "train"}},
        "val": {"images": "images", "labels": [layer], "splits": {"val": "val"}},
    }
    index, report = folder.check(sources=sources)
    records = [*index.records["train"], *index.records["val"]]
    assert [(record.image_id, record.labels["things"][0].annotation_id) for record in records] == [(1, 1), (2, 2)]
    assert index.categories["things"] == [Category(1, "cat")]
    assert not report.findings


def test_image_ids_that_repeat_over_splits_are_numbered(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    document = folder.coco("val", {"b.png": [{}]})
    document["images"][0]["id"] = document["annotations"][0]["image_id"] = 100
    folder.text("val.json", json.dumps(document))
    index, report = folder.check()
    assert [record.image_id for split in index.records.values() for record in split] == [1, 2]
    assert index.records["val"][0].labels["things"][0].annotation_id == 2000
    assert not report.findings


def test_two_layers_of_a_task_are_combined_and_differing_image_ids_are_renumbered(folder: Any) -> None:
    document = folder.coco("train", {"a.png": [{"bbox": [1, 1, 0, 0]}, {"bbox": [5, 5, 4, 4]}]})
    folder.coco("val", {"b.png": [{}]})
    document["images"][0]["id"] = 7
    document["annotations"] = [{"id": 4, "image_id": 7, "category_id": 5, "bbox": [9, 9, 3, 3]}]
    folder.text("more_train.json", json.dumps(document))
    folder.text("more_val.json", (folder.root / "val.json").read_text())
    index, _ = folder.check(labels=[*folder.labels, folder.labels[0] | {"path": "more_{split}.json"}])
    (record,) = index.records["train"]
    assert record.image_id == 1
    found = [(box.annotation_id, box.bbox_xywh) for box in record.labels["things"]]
    assert found == [(2, (5, 5, 4, 4)), (3, (9, 9, 3, 3))]


def test_annotation_ids_that_repeat_over_splits_are_renumbered_with_skipped_ones(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"id": 9}, {"id": 1, "bbox": [0, 0, 0, 0]}, {"id": 2}]})
    folder.coco("val", {"b.png": [{"id": 1}]})
    index, report = folder.check()
    assert [box.annotation_id for box in index.records["train"][0].labels["things"]] == [1, 3]
    assert index.records["val"][0].labels["things"][0].annotation_id == 4
    assert report.findings[0].annotation_id == 1


def test_annotation_ids_with_a_zero_are_numbered(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"id": 0}, {"id": 8}]})
    folder.coco("val", {"b.png": [{"id": 9}]})
    index, _ = folder.check()
    assert [box.annotation_id for box in index.records["train"][0].labels["things"]] == [1, 2]


def test_file_in_nested_images_folders_is_reported_once(folder: Any) -> None:
    folder.image("deep/unlisted.png")
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", {"deep/b.png": [{}]})
    document = json.loads((folder.root / "val.json").read_text())
    document["images"][0]["file_name"] = "b.png"
    folder.text("val.json", json.dumps(document))
    sources = {
        "one": {"images": "images", "labels": folder.labels, "splits": {"train": "train"}},
        "two": {"images": "images/deep", "labels": folder.labels, "splits": {"val": "val"}},
    }
    _, report = folder.check(sources=sources)
    assert [(finding.kind, finding.file) for finding in report.findings] == [
        ("unlisted_image", "images/deep/unlisted.png")
    ]


def test_images_folders_and_splits_can_have_other_names_on_disk(folder: Any) -> None:
    for split, name in (("train", "Tr"), ("val", "Va")):
        folder.coco(split, {f"../{name}/pictures/a.png": [{}]})
        document = json.loads((folder.root / f"{split}.json").read_text())
        document["images"][0]["file_name"] = "a.png"
        folder.text(f"labels/{name}.json", json.dumps(document))
    labels = [folder.labels[0] | {"path": "labels/{split}.json"}]
    index, report = folder.check(labels=labels, images="{split}/pictures", splits={"train": "Tr", "val": "Va"})
    assert [record.path.parent.parent.name for split in index.records.values() for record in split] == ["Tr", "Va"]
    assert not report.findings


def test_index_does_not_depend_on_the_order_in_the_files(folder: Any) -> None:
    document = folder.coco("train", {"a.png": [{}, {"bbox": [9, 9, 2, 2]}], "c.png": [{}]})
    folder.coco("val", {"b.png": [{}]})
    index, report = folder.check()
    document["images"].reverse()
    folder.text("train.json", json.dumps(document))
    assert folder.check()[0] == index
    assert folder.check()[1].fingerprints == report.fingerprints
