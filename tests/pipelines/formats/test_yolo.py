"""YOLO data sets are read: a YAML file, and text files in `labels/`."""

from typing import Any

import pytest

YOLO = [{"format": "yolo", "path": "data.yaml", "tasks": ["things"]}]
NAMES = "names: [cat, dog]\n"
ROW = "0 0.5 0.5 0.5 0.5\n"


def write_yolo(
    folder: Any,
    labels: dict[str, str | None],
    yaml: str = f"train: images/train\nval: images/val\n{NAMES}",
    path: str = "data.yaml",
) -> None:
    """Write images `images/NAME.png`, their label files below `labels/` (None: no file), and the YAML file."""
    for name, text in labels.items():
        folder.image(f"../images/{name}.png")
        if text is not None:
            folder.text(f"labels/{name}.txt", text)
    folder.text(path, yaml)


def boxes_of(index: Any, split: str = "train", number: int = 0) -> list[Any]:
    return [(box.category, box.bbox_xywh) for box in index.records[split][number].labels["things"]]


def check(folder: Any, images: str = ".", **job: Any) -> Any:
    return folder.check(**{"labels": YOLO, "images": images} | job)


def places_of(report: Any) -> list[tuple[str, str, Any]]:
    return [(finding.kind, finding.file, finding.annotation_id) for finding in report.findings]


def test_yolo_boxes_are_centers_and_sizes_and_polygons_are_enclosed(folder: Any) -> None:
    rows = ROW + "1 0.1 0.1 0.5 0.1 0.3 0.6\n1 0.25 0 0.75 0 0.75 0.5 0.25 0.5\n"
    write_yolo(folder, {"train/a": rows, "val/b": ROW})
    index, report = check(folder)
    assert boxes_of(index)[0] == ("cat", (15, 10, 30, 20))
    assert boxes_of(index)[1] == ("dog", pytest.approx((6, 4, 24, 20)))
    assert boxes_of(index)[2] == ("dog", (15, 0, 30, 20))
    assert [(category.id, category.name) for category in index.categories["things"]] == [(0, "cat"), (1, "dog")]
    assert index.records["train"][0].file_name == "images/train/a.png"
    assert not report.findings


def test_images_folder_of_the_source_may_be_any_folder_that_contains_the_images(folder: Any) -> None:
    write_yolo(folder, {"train/a": ROW, "val/b": "1" + ROW[1:]})
    index, report = check(folder, images="images")
    assert index.records["train"][0].file_name == "train/a.png"
    index, report = check(folder, images="images/{split}")
    assert index.records["train"][0].file_name == "a.png"
    assert [finding.kind for finding in report.findings] == ["not_in_train"]
    _, report = check(folder, images="labels")
    assert [finding.kind for finding in report.errors][:2] == ["missing_image"] * 2
    assert "write the folder that contains them, such as '.', as data.sources.s.images" in str(report.errors[0])


def test_other_layers_are_joined_by_the_path_of_the_image(folder: Any) -> None:
    write_yolo(folder, {"train/a": ROW, "val/b": ROW})
    folder.text("l.csv", "file_name,kind,part\ntrain/a.png,day,train\nval/b.png,day,val\n")
    csv = {"format": "csv", "path": "l.csv", "column": "kind", "split_column": "part", "tasks": ["kind"]}
    tasks = folder.tasks | {"kind": {"head": "multiclass"}}
    index, _ = check(folder, images="images", labels=[*YOLO, csv], tasks=tasks)
    assert set(index.records["train"][0].labels) == {"things", "kind"}


@pytest.mark.parametrize(
    ("yaml", "path"),
    [
        (f"path: .\ntrain: images/train\nval: images/val\n{NAMES}", "data.yaml"),
        (f"path:\ntrain: ./images/train/\nvalid: images/val\ntest:\n{NAMES}", "data.yaml"),
        (f"path: images\ntrain: train\nvalidation: [val]\n{NAMES}", "data.yaml"),
        (f"train: ../images/train\nval: ../images/val\nnc: 2\n{NAMES}roboflow: {{version: 3}}\n", "data.yaml"),
        (f"path: ..\ntrain: images/train\nval: images/val\n{NAMES}", "cfg/data.yaml"),
        (f"train: ../images/train\nval: ../images/val\n{NAMES}", "cfg/data.yaml"),
        ("path: ../datasets/ROOT\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n", "data.yaml"),
        ("train: images\\train\nval: images\\val\nnc: 2\nnames:\n  0: cat\n  1: dog\n", "data.yaml"),
        (f"\ufefftrain: images/train\r\nval: images/val\r\n{NAMES}", "data.yaml"),
        (f"train: train.txt\nval: [lists/val.txt]\n{NAMES}", "data.yaml"),
    ],
)
def test_paths_of_the_yaml_file_are_found_as_ultralytics_finds_them(folder: Any, yaml: str, path: str) -> None:
    write_yolo(folder, {"train/a": ROW, "train/c": ROW, "val/b": ROW}, yaml.replace("ROOT", folder.root.name), path)
    folder.text("train.txt", "\ufeff./images/train/a.png\r\n\r\nimages/train/c.png\r\n")
    folder.text("lists/val.txt", "data/images/val/b.png\n")
    index, report = check(folder, labels=[YOLO[0] | {"path": path}])
    assert [record.file_name for record in index.records["train"]] == ["images/train/a.png", "images/train/c.png"]
    assert boxes_of(index, "val") == [("cat", (15, 10, 30, 20))]
    assert [(finding.kind, finding.message[:5]) for finding in report.findings] == [("unused_category", "'dog'")]


@pytest.mark.parametrize("place", ["/content/blood", "../datasets/other", "C:/data"])
def test_a_path_of_another_machine_is_reported_and_the_yamls_own_folder_is_used(folder: Any, place: str) -> None:
    write_yolo(folder, {"train/a": ROW, "val/b": ROW}, f"path: {place}\ntrain: images/train\nval: images/val\n{NAMES}")
    index, report = check(folder)
    assert len(boxes_of(index)) == 1
    assert [finding.kind for finding in report.warnings][:2] == ["moved_data_set"] * 2
    assert "Remove 'path', or write it relative to the YAML file" in str(report.warnings[0])


@pytest.mark.parametrize(
    ("entry", "kind", "fragment"),
    [
        ("/etc", "unsafe_path", "write a path relative to the YAML file"),
        ("../../etc", "missing_image", "is missing"),
        ("images/missing", "missing_image", "the entry 'images/missing' of the split 'train' is missing"),
        ("data.yaml", "broken_label_file", "write a folder, or a .txt file"),
        ("leak", "unsafe_path", "leads out of"),
        ("absolute.txt", "unsafe_path", "line 2 is '/etc/x.png'"),
        ("a" * 300, "missing_image", "is missing"),
        ('"a\\0b"', "missing_image", "is missing"),
    ],
)
def test_entry_that_cannot_be_read_is_an_error_with_a_remedy(
    folder: Any, tmp_path_factory: pytest.TempPathFactory, entry: str, kind: str, fragment: str
) -> None:
    write_yolo(folder, {"train/a": ROW, "val/b": ROW}, f"train: {entry}\nval: images/val\n{NAMES}")
    (folder.root / "leak").symlink_to(tmp_path_factory.mktemp("outside"))
    folder.text("absolute.txt", "images/train/a.png\n/etc/x.png\n../../../x.png\n")
    _, report = check(folder)
    error = next(finding for finding in report.errors if finding.kind == kind)
    assert fragment in str(error)


@pytest.mark.parametrize(
    ("yaml", "fragment"),
    [
        ("train: [", "is not valid YAML"),
        ("- a", "is not a mapping"),
        ("train: images/train\n", "has no 'names'"),
        (f"train: a\n{NAMES}train: b\n", "the key 'train' is repeated in line 3; keep one of its values"),
        ("train: a\nnames:\n  0: cat\n  0: dog\n", "the key '0' is repeated in line 4"),
        ("train: images/train\nnames: cat\n", "write the class names as a list, or by id"),
        ("train: images/train\nnames: [cat, '']\n", "write an integer and a name"),
        ("train: images/train\nnames: {first: cat}\n", "write an integer and a name"),
        ("train: images/train\nnames: [cat, [dog]]\n", "write an integer and a name"),
        ("train: images/train\nnc: 3\nnames: [cat, dog]\n", "has 'nc' 3, but 'names' has 2 names"),
        ("train: images/train\nnc: many\nnames: [cat, dog]\n", "write the number of classes"),
        ("train: images/train\npath: [a]\nnames: [cat]\n", "write one folder"),
    ],
)
def test_broken_yaml_file_is_an_error(folder: Any, yaml: str, fragment: str) -> None:
    write_yolo(folder, {"train/a": ROW}, yaml)
    _, report = check(folder)
    assert (report.errors[0].kind, report.errors[0].file) == ("broken_label_file", "data.yaml")
    assert fragment in report.errors[0].message


def test_class_names_are_the_text_of_the_file(folder: Any) -> None:
    write_yolo(folder, {"train/a": ROW, "val/b": ROW}, "train: images/train\nval: images/val\nnames: [no, 1e3, 007]\n")
    index, _ = check(folder)
    assert [category.name for category in index.categories["things"]] == ["no", "1e3", "007"]
    folder.text("data.yaml", "train: images/train\nval: images/val\nnc: 1\n")
    index, _ = check(folder)
    assert [category.name for category in index.categories["things"]] == ["class_0"]


@pytest.mark.parametrize(
    ("row", "kind", "fragment"),
    [
        ("0 0.5 0.5 0.5 0.5 0.9", "broken_entry", "has 6 columns, as predictions with a confidence have"),
        ("0 0.5 0.5 0.5", "broken_entry", "has 4 columns"),
        ("0 0.1 0.1 0.5 0.1 0.3 0.6 0.2", "broken_entry", "has 8 columns"),
        ("2 0.5 0.5 0.5 0.5", "unknown_category", "class 2 is not declared; 'names' has 0 (cat), 1 (dog)"),
        ("-1 0.5 0.5 0.5 0.5", "unknown_category", "class -1 is not declared"),
        ("0.5 0.5 0.5 0.5 0.5", "broken_entry", "has the class 0.5"),
        ("0 30 20 30 20", "broken_entry", "divide x and width by the width of the image"),
        ("0 -0.5 0.5 0.5 0.5", "broken_entry", "outside of [0, 1]"),
        ("0 nan 0.5 0.5 0.5", "broken_entry", "is not a row of numbers"),
        ("0 0.5 0.5 0.5 1e999", "broken_entry", "is not a row of numbers"),
        ("cat 0.5 0.5 0.5 0.5", "broken_entry", "is not a row of numbers"),
        ("0,0.5,0.5,0.5,0.5", "broken_entry", "is not a row of numbers"),
        ("0 0.5 0.5 0 0.5", "degenerate_box", "has no area"),
        ("0 0.95 0.5 0.5 0.5", "out_of_image_box", "it is clipped"),
        ("0 0.5 0.5 0.5 0.5", "duplicate_box", "both boxes are kept"),
    ],
)
def test_invalid_row_is_found_with_its_file_and_line(folder: Any, row: str, kind: str, fragment: str) -> None:
    write_yolo(folder, {"train/a": f"\ufeff{ROW}\r\n\r\n{row}\r\n", "val/b": "1 0.5 0.5 1 1\n"})
    index, report = check(folder)
    finding = next(finding for finding in report.findings if finding.kind == kind)
    assert (finding.file, finding.image) == ("labels/train/a.txt", "images/train/a.png")
    assert finding.annotation_id == "line 4"
    assert fragment in finding.message
    assert boxes_of(index)[0] == ("cat", (15, 10, 30, 20))


def test_rows_with_one_problem_are_one_finding_for_each_file_and_many_files_are_counted(folder: Any) -> None:
    names = [f"train/{number:02}" for number in range(25)]
    write_yolo(folder, dict.fromkeys(names, "0 30 20 30 20\n" * 3) | {"val/b": ROW})
    _, report = check(folder)
    broken = [finding for finding in report.errors if finding.kind == "broken_entry"]
    assert len(broken) == 21
    assert "(3 lines of this file)" in broken[0].message
    assert "(15 lines of 5 more files)" in broken[-1].message
    assert report.layers[0].broken_entry == 75


def test_keypoints_after_the_box_are_not_a_polygon(folder: Any) -> None:
    yaml = f"train: images/train\nval: images/val\n{NAMES}kpt_shape: [2, 3]\n"
    rows = "0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.2 0.2 1\n"
    write_yolo(folder, {"train/a": rows, "val/b": rows}, yaml)
    assert boxes_of(check(folder)[0]) == [("cat", (15, 10, 30, 20))]


def test_image_without_a_label_file_has_no_objects_and_many_of_them_are_reported(folder: Any) -> None:
    write_yolo(folder, {"train/a": ROW, "train/c": None, "train/d": "", "val/b": ROW})
    index, report = check(folder)
    assert [len(record.labels["things"]) for record in index.records["train"]] == [1, 0, 0]
    finding = next(finding for finding in report.warnings if finding.kind == "no_label_file")
    assert "1 of 3 images have no label file" in finding.message
    (folder.root / "labels/train/a.txt").unlink()
    (folder.root / "labels/train/d.txt").unlink()
    _, report = check(folder)
    assert "none of the 3 images of 'train' has a label file" in str(report.errors[0])
    assert "'labels/train/a.txt'" in str(report.errors[0])


def test_labels_are_in_the_folder_beside_the_last_images_folder_or_beside_the_image(folder: Any) -> None:
    folder.image("../images/images/train/a.png")
    folder.text("images/labels/train/a.txt", ROW)
    folder.image("../val/b.png")
    folder.text("val/b.txt", ROW)
    folder.text("data.yaml", f"train: images/images/train\nval: val\n{NAMES}")
    index, _ = check(folder)
    assert len(boxes_of(index)) == len(boxes_of(index, "val")) == 1


def test_label_files_that_are_not_readable_text_are_errors(folder: Any, tmp_path_factory: Any) -> None:
    write_yolo(folder, {"train/a": ROW, "train/c": None, "train/d": None, "train/e": None, "val/b": ROW})
    (folder.root / "labels/train/c.txt").write_bytes(b"\xff\xfe\x00")
    (folder.root / "labels/train/d.txt").mkdir()
    secret = tmp_path_factory.mktemp("outside") / "secret.txt"
    secret.write_text(ROW)
    (folder.root / "labels/train/e.txt").symlink_to(secret)
    _, report = check(folder)
    assert places_of(report)[:3] == [
        ("broken_label_file", "labels/train/c.txt", None),
        ("broken_label_file", "labels/train/d.txt", None),
        ("unsafe_path", "labels/train/e.txt", None),
    ]


def test_unsupported_images_are_counted_and_hidden_files_ignored(folder: Any) -> None:
    write_yolo(folder, {"train/a": ROW, "val/b": ROW})
    folder.text("images/train/c.HEIC", "x")
    folder.text("images/train/._a.png", "x")
    index, report = check(folder)
    assert len(index.records["train"]) == 1
    finding = next(finding for finding in report.findings if finding.kind == "other_file")
    assert (finding.image, "1 images of unsupported formats" in finding.message) == ("c.HEIC", True)


def test_yaml_without_a_val_split_is_an_error_and_without_a_test_split_is_not(folder: Any) -> None:
    write_yolo(folder, {"train/a": ROW}, f"train: images/train\n{NAMES}")
    index, report = check(folder)
    assert "test" not in index.records
    assert [finding.split for finding in report.errors if finding.kind == "missing_label_file"] == ["val"]


def test_own_names_of_splits_are_keys_of_the_yaml_file(folder: Any) -> None:
    write_yolo(folder, {"train/a": ROW, "val/b": ROW}, f"fold1: images/train\nfold2: images/val\n{NAMES}")
    index, _ = check(folder, splits={"train": "fold1", "val": "fold2"})
    assert set(index.records) == {"train", "val"}


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("nc: 99999999999\n", "has no 'names'"),
        (f"nc: {'9' * 5000}\nnames: [cat]\n", "write the number of classes"),
        ("names: {0: cat, 00: dog}\n", "two names of the class 0, 'cat' and 'dog'"),
        ("names: {x: [[[[[[[[a]]]]]]]]}\n", "write an integer and a name"),
        (
            "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nnames: [*c]",
            "has the class 0",
        ),
    ],
)
def test_yaml_that_would_fill_the_memory_is_an_error(folder: Any, text: str, fragment: str) -> None:
    folder.text("data.yaml", f"train: images/train\nval: images/val\n{text}")
    _, report = folder.check(images=".", labels=[{"format": "yolo", "tasks": ["things"]}])
    assert report.errors[0].kind == "broken_label_file"
    assert fragment in report.errors[0].message
    assert len(report.errors[0].message) < 1000


def test_classes_with_equal_names_are_reported(folder: Any) -> None:
    folder.image("train/a.png")
    folder.text("labels/train/a.txt", "0 .5 .5 .2 .2\n1 .3 .3 .2 .2\n0 1_0 .3 .2 .2\n")
    folder.text("data.yaml", "train: images/train\nval: images/val\nnames: [cat, cat]\n")
    _, report = folder.check(images=".", labels=[{"format": "yolo", "tasks": ["things"]}])
    messages = {finding.message for finding in report.findings if finding.kind == "repeated_category"}
    assert messages == {"the classes 0 and 1 are both 'cat'; they are merged"}
    assert [error.annotation_id for error in report.errors if error.kind == "broken_entry"] == ["line 3"]
