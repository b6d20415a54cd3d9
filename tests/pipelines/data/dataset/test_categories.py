"""Classes are merged, renamed, dropped and numbered."""

from typing import Any

from pipelines.base.records import Category

TWO = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
LOOKUP = {"head": "embedding", "of": "objects"}


def names(index: Any, split: str = "train", task: str = "things") -> list[list[str]]:
    return [[box.category for box in record.labels[task]] for record in index.records[split]]


def test_categories_with_one_id_for_two_names_are_numbered_by_name(folder: Any) -> None:
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


def test_merged_class_gets_the_smallest_id_of_the_classes_that_it_replaces(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"category_id": 8}, {"category_id": 3}]}, categories=TWO)
    folder.coco("val", {"b.png": [{"category_id": 8}]}, categories=TWO)
    index, report = folder.check(labels=[folder.labels[0] | {"classes": {"cat": "pet", "dog": "pet"}}])
    assert index.categories["things"] == [Category(3, "pet")]
    assert report.count("duplicate_box") == 1


def test_image_with_a_dropped_class_is_unlabeled_for_multiclass_and_empty_for_multilabel(folder: Any) -> None:
    for name in "abc":
        folder.image(f"{name}.png")
    folder.text("l.csv", "file_name,split,kind\na.png,train,day\nb.png,train,junk\nc.png,val,day\n")
    csv = {"format": "csv", "path": "l.csv", "split_column": "split", "column": "kind", "classes": {"junk": None}}
    tasks = {"one": {"head": "multiclass"}, "some": {"head": "multilabel"}}
    index, report = folder.check(labels=[csv | {"tasks": ["one", "some"]}], tasks=tasks)
    assert [record.labels for record in index.records["train"]] == [{"one": ["day"], "some": ["day"]}, {"some": []}]
    assert index.categories["one"] == index.categories["some"] == [Category(1, "day")]
    assert report.layers[0].dropped == 1


def test_categories_of_an_embedding_are_the_identities_in_train(folder: Any) -> None:
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


def test_embedding_of_images_uses_the_class_as_identity(folder: Any) -> None:
    for name in "abc":
        folder.image(f"{name}.png")
    folder.text("l.csv", "file_name,split,who\na.png,train,tom\nb.png,train,ann\nc.png,val,new\n")
    csv = {"format": "csv", "path": "l.csv", "split_column": "split", "column": "who", "tasks": ["lookup"]}
    index, _ = folder.check(labels=[csv], tasks={"lookup": {"head": "embedding"}})
    assert index.categories["lookup"] == [Category(1, "ann"), Category(2, "tom")]
    assert index.records["val"][0].labels == {"lookup": ["new"]}
