"""How layers are joined, classes merged and ids given; counts that add up whatever the files say."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.data.records import Category

TWO = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
LOOKUP = {"head": "embedding", "of": "objects"}


def names(index: Any, split: str = "train", task: str = "things") -> list[list[str]]:
    return [[box.category for box in record.labels[task]] for record in index.records[split]]


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


def test_one_source_keeps_its_ids_and_images_without_one_are_numbered_on(folder: Any) -> None:
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


def test_two_sources_are_numbered_even_where_their_ids_differ(folder: Any) -> None:
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


def test_two_layers_of_a_task_add_up_and_their_differing_image_ids_are_numbered(folder: Any) -> None:
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


def test_annotation_ids_that_repeat_over_splits_are_numbered_with_those_left_out(folder: Any) -> None:
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


def test_category_id_of_two_names_in_two_splits_is_numbered_by_name(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]}, categories=[{"id": 5, "name": "cat"}])
    folder.coco("val", {"b.png": [{}]}, categories=[{"id": 5, "name": "ant"}])
    index, _ = folder.check()
    assert index.categories["things"] == [Category(1, "ant"), Category(2, "cat")]


def test_merged_classes_of_one_image_count_once(folder: Any) -> None:
    for name in "ab":
        folder.image(f"{name}.png")
    folder.text("l.csv", "file_name,split,kind\na.png,train,cat dog cat\nb.png,val,cat\n")
    csv = {"format": "csv", "path": "l.csv", "split_column": "split", "column": "kind", "separator": " "}
    layer = csv | {"tasks": ["kind"], "classes": {"cat": "pet", "dog": "pet"}}
    index, report = folder.check(labels=[layer], tasks={"kind": {"head": "multilabel"}})
    assert index.records["train"][0].labels == {"kind": ["pet"]}
    assert (report.layers[0].read, report.layers[0].kept, report.layers[0].repeated) == (3, 1, 2)


def test_file_in_nested_images_folders_is_told_once(folder: Any) -> None:
    folder.image("deep/nobody.png")
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
        ("unlisted_image", "images/deep/nobody.png")
    ]


def test_fingerprint_knows_whether_exif_is_applied(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", {"b.png": [{}]})
    ignored, applied = (folder.check(exif=exif)[1].fingerprints for exif in ("ignore", "apply"))
    assert ignored["val"] != applied["val"]


def test_category_ids_of_one_source_are_kept_in_their_order(folder: Any) -> None:
    categories = [{"id": 90, "name": "ant"}, {"id": 7, "name": "zebra"}]
    folder.coco("train", {"a.png": [{"category_id": 90}, {"category_id": 7}]}, categories=categories)
    folder.coco("val", {"b.png": [{"category_id": 7}]}, categories=categories)
    index, _ = folder.check()
    assert index.categories["things"] == [Category(7, "zebra"), Category(90, "ant")]


def test_category_ids_that_differ_between_splits_are_numbered_by_name(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"category_id": 8}]}, categories=TWO)
    swapped = [{"id": 3, "name": "dog"}, {"id": 8, "name": "cat"}]
    folder.coco("val", {"b.png": [{"category_id": 3}]}, categories=swapped)
    index, _ = folder.check()
    assert index.categories["things"] == [Category(1, "cat"), Category(2, "dog")]
    assert names(index, "train") == names(index, "val") == [["dog"]]


def test_classes_can_be_renamed_merged_and_dropped_and_drops_are_counted(folder: Any) -> None:
    categories = [*TWO, {"id": 1, "name": "puppy"}, {"id": 4, "name": "junk"}]
    boxes = [{"category_id": 3}, {"category_id": 8, "bbox": [5, 5, 2, 2]}, {"category_id": 1}, {"category_id": 4}]
    folder.coco("train", {"a.png": boxes, "c.png": [{"category_id": 4}]}, categories=categories)
    folder.coco("val", {"b.png": [{"category_id": 8}]}, categories=categories)
    classes = {"puppy": "dog", "junk": None, "cat": "feline"}
    index, report = folder.check(labels=[folder.labels[0] | {"classes": classes}])
    assert names(index) == [["feline", "dog", "dog"], []]
    assert index.categories["things"] == [Category(3, "feline"), Category(8, "dog")]
    assert (report.layers[0].dropped, report.layers[0].kept) == (2, 3)
    assert report.tasks["things"].empty["train"] == 1


def test_merged_class_takes_the_smallest_id_of_those_it_replaces(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"category_id": 8}, {"category_id": 3}]}, categories=TWO)
    folder.coco("val", {"b.png": [{"category_id": 8}]}, categories=TWO)
    index, report = folder.check(labels=[folder.labels[0] | {"classes": {"cat": "pet", "dog": "pet"}}])
    assert index.categories["things"] == [Category(3, "pet")]
    assert report.count("duplicate_box") == 1


def test_dropped_class_of_an_image_makes_it_unlabelled_for_one_class_and_empty_for_several(folder: Any) -> None:
    for name in "abc":
        folder.image(f"{name}.png")
    folder.text("l.csv", "file_name,split,kind\na.png,train,day\nb.png,train,junk\nc.png,val,day\n")
    csv = {"format": "csv", "path": "l.csv", "split_column": "split", "column": "kind", "classes": {"junk": None}}
    tasks = {"one": {"head": "multiclass"}, "some": {"head": "multilabel"}}
    index, report = folder.check(labels=[csv | {"tasks": ["one", "some"]}], tasks=tasks)
    assert [record.labels for record in index.records["train"]] == [{"one": ["day"], "some": ["day"]}, {"some": []}]
    assert index.categories["one"] == index.categories["some"] == [Category(1, "day")]
    assert report.layers[0].dropped == 1


def test_categories_of_an_embedding_are_the_identities_of_train(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"identity": "tom"}, {"identity": "ann"}, {}, {"identity": "mob", "iscrowd": 1}]})
    folder.coco("val", {"b.png": [{"identity": "new"}, {"identity": "tom"}]})
    tasks = folder.tasks | {"lookup": LOOKUP}
    index, report = folder.check(labels=[folder.labels[0] | {"tasks": ["things", "lookup"]}], tasks=tasks)
    assert index.categories["lookup"] == [Category(1, "ann"), Category(2, "tom")]
    assert [box.identity for box in index.records["val"][0].labels["lookup"]] == ["new", "tom"]
    assert report.count("not_in_train") == 1
    assert {row["name"]: row["id"] for row in report.to_dict()["tasks"]["lookup"]["classes"]} == {
        "ann": 1,
        "tom": 2,
        "new": None,
    }


def test_embedding_of_images_takes_the_class_as_identity(folder: Any) -> None:
    for name in "abc":
        folder.image(f"{name}.png")
    folder.text("l.csv", "file_name,split,who\na.png,train,tom\nb.png,train,ann\nc.png,val,new\n")
    csv = {"format": "csv", "path": "l.csv", "split_column": "split", "column": "who", "tasks": ["lookup"]}
    index, _ = folder.check(labels=[csv], tasks={"lookup": {"head": "embedding"}})
    assert index.categories["lookup"] == [Category(1, "ann"), Category(2, "tom")]
    assert index.records["val"][0].labels == {"lookup": ["new"]}


def test_images_and_splits_have_their_own_names_on_disk(folder: Any) -> None:
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


@pytest.mark.parametrize("change", ["bbox", "category", "pixels", "nothing", "ids"])
def test_fingerprint_changes_with_labels_and_pixels_alone(folder: Any, change: str) -> None:
    folder.coco("train", {"a.png": [{}]})
    document = folder.coco("val", {"b.png": [{}]}, categories=[{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}])
    before = folder.check()[1].fingerprints
    if change == "bbox":
        document["annotations"][0]["bbox"] = [1, 2, 3, 5]
    if change == "category":
        document["annotations"][0]["category_id"] = 6
    if change == "pixels":
        folder.image("b.png")
    if change == "ids":
        document["annotations"][0]["id"] = document["images"][0]["id"] = document["annotations"][0]["image_id"] = 77
    folder.text("val.json", json.dumps(document))
    after = folder.check()[1].fingerprints
    assert after["train"] == before["train"]
    assert (after["val"] == before["val"]) == (change in ("nothing", "ids"))


def test_report_is_written_whole_and_printed_with_few_examples(folder: Any, tmp_path: Path) -> None:
    folder.coco("train", {"a.png": [{"bbox": [1, 1, 0, 0]}] * 8 + [{}], "[b]old.png": [{"category_id": 9}] * 7})
    folder.coco("val", {"b.png": [{}]})
    _, report = folder.check()
    report.write(tmp_path / "out" / "data_report.json")
    written = json.loads((tmp_path / "out" / "data_report.json").read_text())
    assert (written["num_errors"], written["num_warnings"]) == (7, 8)
    assert len(written["warnings"]) == 8
    assert written["findings"] == {"unknown_category": 7, "degenerate_box": 8}
    assert written["splits"]["train"] == {"listed": 2, "in_index": 2, "unlabelled": 0, "unusable": 0}
    assert all(layer["adds_up"] for layer in written["layers"])
    text = report.render()
    assert "and 3 more in the written report" in text
    assert "[b]old.png" in text
    assert text.index("error: ") < text.index("warning: ")
    assert len(report.problems()) == 6
    assert report.problems()[-1].message.startswith("2 more annotations of categories")


BOX = st.fixed_dictionaries(
    {"category_id": st.sampled_from([5, 6, 7, 99])},
    optional={
        "bbox": st.lists(st.sampled_from([-9, 0, 5, 30, 100, None]), min_size=3, max_size=4),
        "iscrowd": st.sampled_from([0, 1, 2]),
        "image_id": st.sampled_from([100, 101, 555]),
        "identity": st.sampled_from(["a", "b", None, 4]),
    },
)
LISTS = st.lists(BOX, max_size=6)
CLASSES = st.dictionaries(st.sampled_from(["cat", "dog", "emu"]), st.sampled_from(["cat", "pet", None]), max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=LISTS, second=LISTS, val=LISTS, classes=CLASSES)
def test_annotations_read_are_kept_or_left_out_for_a_told_reason(
    folder: Any, first: list[Any], second: list[Any], val: list[Any], classes: dict[str, str | None]
) -> None:
    categories = [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}, {"id": 7, "name": "emu"}]
    folder.coco("train", {"a.png": first, "c.png": second}, categories=categories)
    folder.coco("val", {"b.png": val}, categories=categories)
    labels = [folder.labels[0] | {"tasks": ["things", "lookup"], "classes": classes}]
    index, report = folder.check(labels=labels, tasks=folder.tasks | {"lookup": LOOKUP})
    for layer, given_boxes in zip(report.layers, (first + second, val), strict=True):
        assert layer.read == len(given_boxes)
        found = {
            kind: sum(f.kind == kind and f.split == layer.split for f in report.findings)
            for kind in (
                "degenerate_box",
                "out_of_image_box",
                "duplicate_box",
                "unknown_category",
                "unknown_image",
                "broken_entry",
            )
        }
        assert list(found.values()) == [
            layer.degenerate,
            layer.outside + layer.clipped,
            layer.duplicate,
            layer.unknown_category,
            layer.unknown_image,
            layer.broken_entry,
        ]
        boxes = [box for record in index.records[layer.split] for box in record.labels["things"]]
        assert len(boxes) == layer.kept
        assert all(b.bbox_xywh[0] >= 0 and b.bbox_xywh[0] + b.bbox_xywh[2] <= 60 and b.bbox_xywh[3] > 0 for b in boxes)
        assert len({box.annotation_id for box in boxes}) == len(boxes)
        for task in ("things", "lookup"):
            counts = report.tasks[task]
            counted = sum(counter[layer.split] for counter in counts.by_class.values())
            assert counted + counts.crowd[layer.split] + counts.without_identity[layer.split] == layer.kept
    for counts in report.images.values():
        assert counts.listed == counts.in_index + counts.unlabelled + counts.unusable
