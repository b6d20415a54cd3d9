"""What each format's reader makes of its files."""

from typing import Any

import pytest

KIND = {"kind": {"head": "multiclass"}}
VOC = [{"format": "voc", "tasks": ["things"]}]


def voc_object(corners: tuple[Any, ...], name: str = "cat", more: str = "") -> str:
    box = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


def write_voc(folder: Any, split: str, objects: dict[str, str], suffix: str = ".png") -> None:
    for name, text in objects.items():
        folder.image(f"{name}{suffix}")
        size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
        folder.text(f"Annotations/{name}.xml", f"<annotation><filename>x.jpg</filename>{size}{text}</annotation>")
    folder.text(f"ImageSets/Main/{split}.txt", "".join(f"{name}\n" for name in objects))


def boxes_of(index: Any, split: str = "train", number: int = 0, task: str = "things") -> list[Any]:
    return [box.bbox_xywh for box in index.records[split][number].labels[task]]


def test_voc_pixels_are_1_based_and_inclusive(folder: Any) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 60, 40)) + voc_object(("3.5", 2, 3.5 + 1, 9))})
    write_voc(folder, "val", {"b": ""})
    index, report = folder.check(labels=VOC)
    assert boxes_of(index) == [(0, 0, 60, 40), (2.5, 1, 2, 8)]
    assert index.records["val"][0].labels == {"things": []}
    assert [finding.kind for finding in report.findings] == ["no_labels_to_score"]


@pytest.mark.parametrize("corners", [(5, 5, 5, 5), (5, 5, 5, 9), (5, 9, 9, 5)])
def test_voc_box_whose_max_is_not_above_its_min_is_degenerate(folder: Any, corners: tuple[int, ...]) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9)) + voc_object(corners)})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    index, report = folder.check(labels=VOC)
    (finding,) = report.findings
    assert (finding.kind, finding.file, finding.annotation_id) == ("degenerate_box", "Annotations/a.xml", "#1")
    assert len(boxes_of(index)) == 1


def test_voc_difficult_objects_are_trained_on_and_ignored_in_scoring(folder: Any) -> None:
    hard = voc_object((1, 1, 9, 9), more="<difficult>1</difficult>")
    write_voc(folder, "train", {"a": hard + voc_object((11, 11, 19, 19), more="<difficult>0</difficult>")})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    index, report = folder.check(labels=VOC)
    first, second = index.records["train"][0].labels["things"]
    assert (first.is_crowd, first.is_difficult, first.is_ignored_in_scoring) == (False, True, True)
    assert not second.is_ignored_in_scoring
    assert report.layers[0].difficult == 1


def test_voc_child_of_an_object_can_be_its_identity(folder: Any) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9), more="<who> tom </who>") + voc_object((1, 1, 7, 7))})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9), more="<who>tom</who>")})
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    index, _ = folder.check(labels=[VOC[0] | {"tasks": ["things", "lookup"]}], tasks=tasks)
    assert [box.identity for box in index.records["train"][0].labels["lookup"]] == ["tom", None]
    assert [box.identity for box in index.records["train"][0].labels["things"]] == [None, None]


def test_voc_image_is_found_with_any_ending_and_sets_by_class_list_all_images(folder: Any) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9))}, suffix=".PNG")
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9)), "c": ""})
    folder.text("ImageSets/Main/val.txt", "b  1\nc -1\n\n")
    index, report = folder.check(labels=VOC)
    assert [record.file_name for record in index.records["val"]] == ["b.png", "c.png"]
    assert index.records["train"][0].file_name == "a.PNG"
    assert not report.findings


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (None, "missing_label_file"),
        ("<annotation>", "broken_label_file"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "broken_label_file"),
        (f"<a>{voc_object((1, 1, 9, 'x'))}</a>", "broken_entry"),
        (f"<a>{voc_object((1, 1, 9, 'nan'))}</a>", "broken_entry"),
        (f"<a>{voc_object((1, 1, 9, 9), name=' ')}</a>", "broken_entry"),
    ],
)
def test_broken_voc_file_is_an_error_that_names_it(folder: Any, text: str | None, kind: str) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9)), "z": ""})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    (folder.root / "Annotations/z.xml").unlink()
    if text is not None:
        folder.text("Annotations/z.xml", text)
    _, report = folder.check(labels=VOC)
    assert [(finding.kind, finding.file) for finding in report.errors] == [(kind, "Annotations/z.xml")]


def test_voc_name_that_leaves_the_root_is_an_error(folder: Any) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9))})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    folder.text("ImageSets/Main/train.txt", "a\n../../secret\na\n")
    _, report = folder.check(labels=VOC)
    assert [(finding.kind, finding.file) for finding in report.findings] == [
        ("unsafe_path", "ImageSets/Main/train.txt"),
        ("repeated_image", "ImageSets/Main/train.txt"),
    ]


@pytest.mark.parametrize("ids", [("b", "a"), (2.5, "2.5"), (-7, 0), (2**70, 12)])
def test_coco_ids_may_be_anything_that_tells_images_apart(folder: Any, ids: tuple[Any, Any]) -> None:
    images = [{"id": ids[0], "file_name": "a.png"}, {"id": ids[1], "file_name": "c.png"}]
    annotations = [
        {"id": ids[0], "image_id": ids[1], "category_id": "five", "bbox": [1, 1, 2, 2]},
        {"image_id": ids[0], "category_id": "five", "bbox": [3, 3, 2, 2]},
    ]
    categories = [{"id": "five", "name": "cat"}]
    for name in ("a.png", "c.png"):
        folder.image(name)
    folder.coco("train", {}, images=images, annotations=annotations, categories=categories)
    folder.coco("val", {"b.png": [{"category_id": "five"}]}, categories=categories)
    index, report = folder.check()
    assert not report.findings
    assert (boxes_of(index, number=0), boxes_of(index, number=1)) == ([(3, 3, 2, 2)], [(1, 1, 2, 2)])
    assert [record.image_id for split in index.records.values() for record in split] == [1, 2, 3]
    assert [(category.id, category.name) for category in index.categories["things"]] == [(1, "cat")]
    assert [record.labels["things"][0].annotation_id for record in index.records["train"]] == [1, 2]


def test_coco_crowd_area_and_identity_are_read(folder: Any) -> None:
    folder.coco("train", {"a.png": [{"iscrowd": 1, "area": 6.5, "who": 31}, {"who": None}, {"who": ""}]})
    folder.coco("val", {"b.png": [{"who": "31"}]})
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects", "identity": "who"}}
    labels = [folder.labels[0] | {"tasks": ["things", "lookup"]}]
    index, report = folder.check(labels=labels, tasks=tasks)
    crowd, *others = index.records["train"][0].labels["lookup"]
    assert (crowd.is_crowd, crowd.area, crowd.identity) == (True, 6.5, "31")
    assert [box.identity for box in others] == [None, None]
    assert report.tasks["things"].crowd["train"] == report.layers[0].crowd == 1
    assert index.categories["lookup"] == []


def test_csv_cell_holds_one_class_or_several_and_empty_is_unlabeled(folder: Any) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png"):
        folder.image(name)
    folder.text(
        "l.csv", "\ufefffile_name,part,marks,kind\na.png,T,x;y,day\nb.png,T,,night\nc.png,T,x ; x,\nd.png,V,y,day\n"
    )
    shared = {"format": "csv", "path": "l.csv", "split_column": "part"}
    labels = [
        shared | {"column": "marks", "separator": ";", "tasks": ["marks"]},
        shared | {"column": "kind", "tasks": ["kind"]},
    ]
    splits = {"train": "T", "val": "V"}
    index, report = folder.check(labels=labels, tasks=KIND | {"marks": {"head": "multilabel"}}, splits=splits)
    assert [record.labels for record in index.records["train"]] == [
        {"marks": ["x", "y"], "kind": ["day"]},
        {"kind": ["night"]},
        {"marks": ["x"]},
    ]
    assert report.layers[0].repeated == 1
    assert report.tasks["marks"].unlabeled["train"] == 1
    assert not report.findings


def test_csv_separator_of_a_blank_stands_for_any_run_of_blanks(folder: Any) -> None:
    for name in "ab":
        folder.image(f"{name}.png")
    for split, row in (("train", "a.png,  x  y "), ("val", "b.png,y x")):
        folder.text(f"{split}.csv", f"file_name,marks\n{row}\n")
    labels = [{"format": "csv", "path": "{split}.csv", "column": "marks", "separator": " ", "tasks": ["marks"]}]
    index, _ = folder.check(labels=labels, tasks={"marks": {"head": "multilabel"}})
    assert index.records["train"][0].labels == {"marks": ["x", "y"]}
    assert index.records["val"][0].labels == {"marks": ["y", "x"]}


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("file,kind\na.png,day\n", "broken_label_file", "has no column 'file_name'; its header is ['file', 'kind']"),
        ("", "broken_label_file", "has no column 'file_name' and no 'kind'; its header is []"),
        ('file_name,kind\na.png,"day\n', "broken_label_file", "is no CSV"),
        ("file_name,kind\na.png,day\nc.png\n", "broken_entry", "line 3 does not have one cell for each column"),
        ("file_name,kind\na.png,day\nc.png,x,y\n", "broken_entry", "line 3"),
        ("file_name,kind\na.png,day\n ,x\n", "broken_entry", "line 3"),
    ],
)
def test_broken_csv_is_an_error(folder: Any, text: str, kind: str, told: str) -> None:
    folder.image("a.png")
    folder.image("b.png")
    folder.text("train.csv", text)
    folder.text("val.csv", "file_name,kind\nb.png,day\n")
    labels = [{"format": "csv", "path": "{split}.csv", "column": "kind", "tasks": ["kind"]}]
    _, report = folder.check(labels=labels, tasks=KIND)
    assert (report.errors[0].kind, report.errors[0].file) == (kind, "train.csv")
    assert told in report.errors[0].message


def test_image_folder_gives_the_first_folder_as_class(folder: Any) -> None:
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


def test_image_folder_can_be_the_images_of_each_split(folder: Any) -> None:
    for name in ("../train/day/a.png", "../val/day/a.png"):
        folder.image(name)
    labels = [{"format": "image_folder", "path": ".", "tasks": ["kind"]}]
    index, report = folder.check(labels=labels, tasks=KIND, images="{split}")
    assert [record.file_name for split in index.records.values() for record in split] == ["day/a.png"] * 2
    assert not report.findings
