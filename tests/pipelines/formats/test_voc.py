"""Pascal VOC files are read."""

from typing import Any

import pytest

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
def test_voc_box_with_max_at_most_min_is_degenerate(folder: Any, corners: tuple[int, ...]) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9)) + voc_object(corners)})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    index, report = folder.check(labels=VOC)
    (finding,) = report.findings
    assert (finding.kind, finding.file, finding.annotation_id) == ("degenerate_box", "Annotations/a.xml", "#1")
    assert len(boxes_of(index)) == 1


def test_voc_difficult_objects_are_used_for_training_and_ignored_in_scoring(folder: Any) -> None:
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


def test_voc_image_is_found_with_any_extension_and_sets_by_class_list_all_images(folder: Any) -> None:
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
