"""Every kind of finding: what brings it about, what it says, and what happens to the labels."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.data.findings import KINDS
from pipelines.errors import DataError

GOOD = {"b.png": [{}]}
CSV = {"format": "csv", "path": "labels.csv", "split_column": "split", "column": "kind"}


def kinds(report: Any) -> set[str]:
    return {finding.kind for finding in report.findings}


def only(report: Any, kind: str) -> Any:
    """The one finding of a kind, among no others of the same severity."""
    same = [finding for finding in report.findings if finding.severity == KINDS[kind].severity]
    assert [finding.kind for finding in same] == [kind], report.render()
    return same[0]


def test_clean_data_has_no_findings(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert report.findings == []
    assert list(index.records) == ["train", "val"]
    report.raise_errors()


def test_degenerate_box_is_left_out_and_told_with_file_and_annotation(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}, {"id": 812, "bbox": [30, 8, 0, 12]}, {"bbox": [3, 3, 4, -1]}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert report.count("degenerate_box") == 2
    finding = report.findings[0]
    assert (finding.severity, finding.file, finding.image, finding.annotation_id) == (
        "warning",
        "train.json",
        "a.png",
        812,
    )
    assert str(finding) == "train.json, a.png, annotation 812: has no area, (30, 8, 0, 12); it is left out"
    assert [box.bbox_xywh for box in index.records["train"][0].labels["things"]] == [(1, 2, 3, 4)]
    assert (report.layers[0].read, report.layers[0].kept, report.layers[0].degenerate) == (3, 1, 2)


def test_box_that_leaves_its_image_is_clipped_and_one_outside_is_left_out(folder: Any) -> None:
    boxes = [{"bbox": [50, 30, 20, 20], "area": 399}, {"bbox": [70, 0, 5, 5]}, {"bbox": [-2, -3, 5, 5]}]
    folder.coco("train", {"a.png": boxes})
    folder.coco("val", GOOD)
    index, report = folder.check()
    kept = index.records["train"][0].labels["things"]
    assert [box.bbox_xywh for box in kept] == [(50, 30, 10, 10), (0, 0, 3, 2)]
    assert kept[0].area == 100
    assert report.count("out_of_image_box") == 3
    assert (report.layers[0].clipped, report.layers[0].outside, report.layers[0].kept) == (2, 1, 2)


def test_box_that_leaves_its_image_by_rounding_is_neither_told_nor_changed(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"bbox": [50.005, 2, 10, 4]}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert report.findings == []
    assert index.records["train"][0].labels["things"][0].bbox_xywh == (50.005, 2, 10, 4)


def test_duplicate_box_is_told_and_kept(folder: Any) -> None:
    categories = [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}]
    folder.coco("train", {"a.png": [{}, {"id": 9}, {"category_id": 6}]}, categories=categories)
    folder.coco("val", GOOD, categories=categories)
    index, report = folder.check()
    assert only(report, "duplicate_box").annotation_id == 9
    assert len(index.records["train"][0].labels["things"]) == 3


def test_missing_image_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}], "gone.png": [{}, {}]})
    folder.coco("val", GOOD)
    (folder.root / "images" / "gone.png").unlink()
    index, report = folder.check()
    assert only(report, "missing_image").image == "gone.png"
    assert [record.file_name for record in index.records["train"]] == ["a.png"]
    assert report.layers[0].unusable_image == 2
    assert (report.images["train"].listed, report.images["train"].unusable) == (2, 1)
    with pytest.raises(DataError, match=r"train.json, gone.png: there is no such file below images"):
        report.raise_errors()


def test_missing_images_folder_is_one_error(folder: Any) -> None:
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
    folder.text("images/text.png", "no image")
    _, report = folder.check()
    assert [(finding.kind, finding.file) for finding in report.errors] == [
        ("unreadable_image", "images/cut.png"),
        ("unreadable_image", "images/text.png"),
    ]


def test_mis_sized_image_is_a_warning_and_its_own_size_counts(folder: Any) -> None:
    folder.image("a.png", size_hw=(60, 40))
    folder.coco("train", {"a.png": [{"bbox": [0, 45, 5, 5]}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert only(report, "mis_sized_image").message == (
        "is 40 x 60, declared as 60 x 40; its sides are swapped: see data.sources.s.exif"
    )
    assert (index.records["train"][0].height, index.records["train"][0].width) == (60, 40)


def test_exif_says_which_size_an_image_has(folder: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder.root / "images").mkdir()
    Image.new("RGB", (40, 60)).save(folder.root / "images" / "a.jpg", exif=exif)
    folder.coco("train", {"a.jpg": [{}]})
    folder.coco("val", GOOD)
    assert kinds(folder.check(exif="apply")[1]) == set()
    assert kinds(folder.check(exif="ignore")[1]) == {"mis_sized_image"}


def test_same_image_in_two_splits_is_an_error_by_content(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}], "c.png": [{}]})
    folder.coco("val", {"other_name.png": [{}]})
    (folder.root / "images/other_name.png").write_bytes((folder.root / "images/a.png").read_bytes())
    _, report = folder.check()
    finding = only(report, "same_image_in_splits")
    assert finding.file == "images/a.png"
    assert "images/other_name.png (s, val)" in finding.message


def test_same_image_in_two_splits_is_an_error_across_sources(folder: Any) -> None:
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


def test_unlabelled_images_are_told_and_left_out(folder: Any) -> None:
    folder.image("nobody.png")
    folder.image("deep/nobody.jpg")
    folder.image("blank.png")
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    folder.text("labels.csv", "file_name,split,kind\na.png,train,day\nblank.png,train,\nb.png,val,day\n")
    labels = [*folder.labels, CSV | {"tasks": ["kind"]}]
    index, report = folder.check(labels=labels, tasks=folder.tasks | {"kind": {"head": "multiclass"}})
    assert {finding.file for finding in report.findings if finding.kind == "unlisted_image"} == {
        "images/nobody.png",
        "images/deep/nobody.jpg",
    }
    assert [finding.image for finding in report.findings if finding.kind == "unlabelled_image"] == ["blank.png"]
    assert report.images["train"].unlabelled == 1
    assert [record.file_name for record in index.records["train"]] == ["a.png"]
    assert not report.errors


def test_annotation_of_an_unknown_category_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}, {"id": 4, "category_id": 9}]})
    folder.coco("val", GOOD)
    _, report = folder.check()
    finding = only(report, "unknown_category")
    assert finding.annotation_id == 4
    assert finding.message == "category_id 9 is not declared; 'categories' has 5 (cat)"
    assert report.layers[0].unknown_category == 1


def test_category_without_an_annotation_is_a_warning(folder: Any) -> None:
    categories = [{"id": 5, "name": "cat"}, {"id": 7, "name": "dog"}]
    folder.coco("train", {"a.png": [{}]}, categories=categories)
    folder.coco("val", GOOD, categories=categories)
    index, report = folder.check()
    assert "'dog'" in only(report, "unused_category").message
    assert [category.name for category in index.categories["things"]] == ["cat", "dog"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_category_that_is_not_in_train_is_a_warning(folder: Any, split: str) -> None:
    categories = [{"id": 5, "name": "cat"}, {"id": 7, "name": "dog"}]
    folder.coco("train", {"a.png": [{}]}, categories=categories)
    folder.coco("val", GOOD, categories=categories)
    folder.coco(split, {"c.png": [{}, {"category_id": 7}]}, categories=categories)
    (folder.root / "images/b.png").unlink(missing_ok=True) if split == "val" else None
    _, report = folder.check()
    assert only(report, "not_in_train").split == split


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


def test_label_file_that_is_a_link_out_of_the_root_is_an_error(folder: Any, tmp_path: Path) -> None:
    folder.root = tmp_path / "data"
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    (folder.root / "train.json").rename(tmp_path / "elsewhere.json")
    (folder.root / "train.json").symlink_to(tmp_path / "elsewhere.json")
    _, report = folder.check()
    assert ("unsafe_path", "train.json") in {(finding.kind, finding.file) for finding in report.errors}


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_label_file_of_train_or_val_is_an_error(folder: Any, split: str) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    (folder.root / f"{split}.json").unlink()
    _, report = folder.check()
    assert ("missing_label_file", f"{split}.json") in {(finding.kind, finding.file) for finding in report.errors}
    assert report.count("empty_split") == 1


def test_missing_test_split_is_no_finding(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    index, report = folder.check()
    assert "test" not in index.records
    assert "test" not in report.fingerprints
    assert not report.findings


def test_layer_without_the_test_split_that_another_has_is_a_warning(folder: Any) -> None:
    for split, name in (("train", "a.png"), ("val", "b.png"), ("test", "c.png")):
        folder.coco(split, {name: [{}]})
    folder.text("labels.csv", "file_name,split,kind\na.png,train,day\nb.png,val,day\n")
    labels = [*folder.labels, CSV | {"tasks": ["kind"]}]
    index, report = folder.check(labels=labels, tasks=folder.tasks | {"kind": {"head": "multiclass"}})
    assert kinds(report) == {"missing_test_layer", "no_labels_to_score"}
    assert list(index.records["test"][0].labels) == ["things"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"images": []}', '{"images": 3, "annotations": [], "categories": []}', "\udcff" * 3]
)
def test_broken_coco_file_is_an_error(folder: Any, text: str) -> None:
    folder.coco("val", GOOD)
    (folder.root / "train.json").write_bytes(text.encode(errors="surrogateescape"))
    _, report = folder.check()
    assert "broken_label_file" in kinds(report)
    assert {finding.file for finding in report.findings if finding.kind == "broken_label_file"} == {"train.json"}


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"bbox": None}, "has no 'bbox'"),
        ({"image_id": None, "category_id": None}, "has no 'image_id' and no 'category_id'"),
        ({"bbox": [1, 2, 3]}, "bbox is [1, 2, 3]; four finite numbers"),
        ({"bbox": [1, 2, 3, float("nan")]}, "four finite numbers"),
        ({"bbox": [1, 2, 3, 10**400]}, "four finite numbers"),
        ({"bbox": [1, 2, 3, "4"]}, "four finite numbers"),
        ({"iscrowd": "yes"}, 'iscrowd is "yes"'),
        ({"area": -1}, "area is -1"),
        ({"identity": ["x"]}, 'identity is ["x"]'),
    ],
)
def test_annotation_that_makes_no_sense_is_an_error(folder: Any, broken: dict[str, Any], told: str) -> None:
    folder.coco("train", {"a.png": [{"identity": "i"}, {"id": 77} | broken]})
    folder.coco("val", {"b.png": [{"identity": "i"}]})
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects"}}
    labels = [folder.labels[0] | {"tasks": ["things", "lookup"]}]
    _, report = folder.check(tasks=tasks, labels=labels)
    finding = only(report, "broken_entry")
    assert (finding.file, finding.annotation_id) == ("train.json", 77)
    assert told in finding.message
    assert report.layers[0].broken_entry == 1


def test_annotation_that_is_no_object_is_an_error(folder: Any) -> None:
    document = folder.coco("train", {"a.png": [{}]})
    folder.text("train.json", json.dumps(document | {"annotations": [*document["annotations"], 3]}))
    folder.coco("val", GOOD)
    assert only(folder.check()[1], "broken_entry").annotation_id == "#1"


def test_annotation_of_an_image_that_is_not_listed_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}, {"id": 3, "image_id": "100"}]})
    folder.coco("val", GOOD)
    _, report = folder.check()
    assert only(report, "unknown_image").annotation_id == 3
    assert report.layers[0].unknown_image == 1


def test_broken_image_and_category_entries_are_errors(folder: Any) -> None:
    document = folder.coco("train", {"a.png": [{}]})
    images = [*document["images"], {"id": 8}, {"id": 9, "file_name": "z.png", "height": "tall", "width": 4}]
    categories = [*document["categories"], {"id": 6}, {"id": 5, "name": "dog"}]
    folder.image("z.png")
    folder.text("train.json", json.dumps(document | {"images": images, "categories": categories}))
    folder.coco("val", GOOD)
    _, report = folder.check()
    assert [finding.kind for finding in report.errors] == ["broken_entry"] * 4


def test_image_id_of_two_files_is_an_error_and_a_file_with_two_ids_a_warning(folder: Any) -> None:
    document = folder.coco("train", {"a.png": [{}], "c.png": [{}], "d.png": []})
    document["images"][1]["id"] = 100
    document["images"] += [{"id": 555, "file_name": "./a.png"}, {"id": 555, "file_name": "a.png"}]
    folder.text("train.json", json.dumps(document))
    folder.coco("val", GOOD)
    _, report = folder.check()
    assert [finding.kind for finding in report.errors] == ["ambiguous_image", "unknown_image"]
    assert report.count("repeated_image") == 2


def test_format_that_does_not_fit_the_task_is_an_error(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    folder.text("labels.csv", "file_name,split,kind\na.png,train,day\nb.png,val,day\n")
    labels = [folder.labels[0] | {"tasks": ["kind"]}, CSV | {"tasks": ["things"]}]
    index, report = folder.check(labels=labels, tasks=folder.tasks | {"kind": {"head": "multiclass"}})
    told = [finding.message for finding in report.findings if finding.kind == "wrong_layer"]
    assert told == [
        "the task 'kind' learns from csv or image_folder, this layer is coco",
        "the task 'things' learns from coco or voc, this layer is csv",
    ]
    assert index.records["train"] == []
    assert report.count("unused_category") == 0


def test_several_classes_where_one_is_wanted_are_an_error(folder: Any) -> None:
    folder.image("a.png")
    folder.image("b.png")
    folder.text("labels.csv", "file_name,split,kind\na.png,train,day|night\nb.png,val,day\nb.png,val,day\n")
    labels = [CSV | {"tasks": ["kind"], "separator": "|"}]
    _, report = folder.check(labels=labels, tasks={"kind": {"head": "multiclass"}})
    finding = next(finding for finding in report.errors if finding.kind == "ambiguous_class")
    assert finding.message == "has the classes ['day', 'night']; 'kind' takes exactly one an image"
    assert report.count("repeated_image") == 1
    assert next(layer for layer in report.layers if layer.split == "val").repeated == 1


def test_task_without_labels_is_an_error_in_train_and_a_warning_in_val(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    _, report = folder.check(tasks=tasks, labels=[folder.labels[0] | {"tasks": ["things", "lookup"]}])
    assert kinds(report) == {"no_labels", "no_labels_to_score"}
    assert "field 'who' (model.tasks.lookup.identity)" in report.errors[0].message
    assert report.tasks["lookup"].without_identity["train"] == 1


def test_rename_of_a_class_that_is_not_there_is_a_warning(folder: Any) -> None:
    folder.coco("train", {"a.png": [{}]})
    folder.coco("val", GOOD)
    _, report = folder.check(labels=[folder.labels[0] | {"classes": {"cta": "feline"}}])
    assert (
        only(report, "unused_rename").message == "classes names 'cta', which no label of this layer has; it has ['cat']"
    )


def test_rows_of_an_unnamed_split_are_a_warning(folder: Any) -> None:
    for name in "ab":
        folder.image(f"{name}.png")
    folder.text(
        "labels.csv", "file_name,split,kind\na.png,train,day\nb.png,val,day\nc.png,extra,day\nd.png,extra,day\n"
    )
    _, report = folder.check(labels=[CSV | {"tasks": ["kind"]}], tasks={"kind": {"head": "multiclass"}})
    assert (
        only(report, "unknown_split").message
        == "2 rows have the split 'extra'; the source has ['test', 'train', 'val']"
    )


def test_other_files_in_class_folders_are_a_warning(folder: Any) -> None:
    for name in ("train/day/a.png", "val/day/b.png"):
        folder.image(name)
    folder.text("images/train/day/notes.txt", "x")
    folder.text("images/train/day/.hidden", "x")
    labels = [{"format": "image_folder", "tasks": ["kind"]}]
    _, report = folder.check(labels=labels, tasks={"kind": {"head": "multiclass"}})
    assert only(report, "other_file").image == "train/day/notes.txt"


def test_root_that_is_no_folder_is_raised(folder: Any) -> None:
    job = folder.job()
    folder.root = folder.root / "nothing"
    from pipelines.data.index import build_index

    with pytest.raises(DataError, match="is not a folder"):
        build_index(job, folder.root)


def test_every_kind_of_finding_is_tested_here() -> None:
    tests = Path(__file__).read_text() + (Path(__file__).parent / "test_formats.py").read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in tests] == []
