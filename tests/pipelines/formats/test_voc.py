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
        (f"<annotation>{voc_object((1, 1, 9, 'x'))}</annotation>", "broken_entry"),
        (f"<annotation>{voc_object((1, 1, 9, 'nan'))}</annotation>", "broken_entry"),
        (f"<annotation>{voc_object((1, 1, 9, 9), name=' ')}</annotation>", "broken_entry"),
        (f"<annotation>{voc_object((1, 1, 9, 9), more='<difficult>2</difficult>')}</annotation>", "broken_entry"),
        ("<html><body>404 Not Found</body></html>", "broken_label_file"),
        ("<!DOCTYPE html><html><br></html>", "broken_label_file"),
        ("<annotations><image name='z.png'/></annotations>", "broken_label_file"),
        ("", "broken_label_file"),
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


def only_warning(folder: Any, text: str) -> Any:
    """Return the index of a set whose image "a" has this XML file, and its only finding."""
    write_voc(folder, "train", {"a": ""})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    folder.text("Annotations/a.xml", text)
    index, report = folder.check(labels=VOC)
    (finding,) = report.findings
    assert finding.severity == "warning"
    return index, finding


def test_root_of_another_format_is_named_with_the_format(folder: Any) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9)), "z": ""})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    folder.text("Annotations/z.xml", "<annotations><image name='z.png'/></annotations>")
    (finding,) = folder.check(labels=VOC)[1].errors
    assert finding.message == (
        "is not a VOC annotation: its root is <annotations>, and that of VOC is <annotation>; "
        "this is CVAT XML: use format: cvat"
    )


@pytest.mark.parametrize("prefix", ["", "v:"])
def test_namespaces_are_ignored(folder: Any, prefix: str) -> None:
    write_voc(folder, "train", {"a": ""})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    declared = f"xmlns{':v' if prefix else ''}='http://example.org/voc'"
    text = f"<annotation>{voc_object((1, 1, 60, 40), more='<difficult>1</difficult>')}</annotation>"
    text = text.replace("</", "\0").replace("<", f"<{prefix}").replace("\0", f"</{prefix}")
    folder.text("Annotations/a.xml", text.replace("annotation>", f"annotation {declared}>", 1))
    index, report = folder.check(labels=VOC)
    assert boxes_of(index) == [(0, 0, 60, 40)]
    assert index.records["train"][0].labels["things"][0].is_difficult
    assert not report.findings


@pytest.mark.parametrize("text", ["<annotation/>", "<annotation>\n</annotation>\n", "<Annotation>objects</Annotation>"])
def test_annotation_without_any_element_is_a_warning(folder: Any, text: str) -> None:
    write_voc(folder, "train", {"a": "", "c": voc_object((1, 1, 9, 9))})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    folder.text("Annotations/a.xml", text)
    index, report = folder.check(labels=VOC)
    finding = next(finding for finding in report.findings if finding.kind == "empty_annotation")
    assert (finding.severity, finding.file) == ("warning", "Annotations/a.xml")
    assert finding.message.startswith("has an <annotation> without any element, so its image has no objects")
    assert boxes_of(index) == []


def test_names_in_upper_case_are_read_with_a_warning(folder: Any) -> None:
    text = f"<annotation>{voc_object((1, 1, 60, 40)) + voc_object((1, 1, 9, 9))}</annotation>"
    index, finding = only_warning(folder, text.replace("object>", "Object>"))
    assert boxes_of(index) == [(0, 0, 60, 40), (0, 0, 9, 9)]
    assert (finding.kind, finding.file) == ("unknown_element", "Annotations/a.xml")
    assert finding.message == "has <Object> (2), which is read as <object>; VOC has lower-case names"


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ("<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>", "bndbox"),
        ("<difficult>1</difficult><difficult>0</difficult>", "difficult"),
        ("<name>dog</name>", "name"),
    ],
)
def test_object_with_a_repeated_element_is_an_error(folder: Any, more: str, name: str) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9)) + voc_object((1, 1, 9, 9), more=more)})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    (finding,) = folder.check(labels=VOC)[1].findings
    assert (finding.kind, finding.annotation_id) == ("broken_entry", "#1")
    assert finding.message == f"the object has 2 <{name}>; keep one, or write an <object> for each"


def test_boxes_of_parts_are_not_repeated_boxes(folder: Any) -> None:
    part = voc_object((2, 2, 4, 4), name="head").replace("object>", "part>")
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9), more=part)})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    index, report = folder.check(labels=VOC)
    assert boxes_of(index) == [(0, 0, 9, 9)]
    assert not report.findings


def test_elements_around_objects_are_read_without_a_warning(folder: Any) -> None:
    write_voc(folder, "train", {"a": f"<objects><list>{voc_object((1, 1, 60, 40))}</list></objects>"})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    index, report = folder.check(labels=VOC)
    assert boxes_of(index) == [(0, 0, 60, 40)]
    assert not report.findings


def test_unknown_elements_are_a_warning_but_attributes_of_objects_are_not(folder: Any) -> None:
    attributes = "<pose>Left</pose><truncated>1</truncated><occluded>0</occluded><color>red</color>"
    objects = voc_object((1, 1, 60, 40), more=attributes)
    index, finding = only_warning(folder, f"<annotation>{objects}<shape><x>3</x></shape><shape/></annotation>")
    assert boxes_of(index) == [(0, 0, 60, 40)]
    assert finding.message == "has the unknown element <annotation/shape> (2), which is not read"


@pytest.mark.parametrize(
    ("text", "is_difficult"),
    [("1", True), ("true", True), ("True", True), ("1.0", True), ("yes", True), ("0", False), ("0.0", False),
     ("False", False), ("no", False), ("", False)],
)  # fmt: skip
def test_difficult_is_read_as_a_number_or_a_word(folder: Any, text: str, is_difficult: bool) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9), more=f"<difficult>{text}</difficult>")})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    index, report = folder.check(labels=VOC)
    assert not report.findings
    assert index.records["train"][0].labels["things"][0].is_difficult == is_difficult


ENTITIES = """<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">{}]>
<annotation><filename>&{};</filename></annotation>"""
BOMB = ENTITIES.format(
    "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)), "i"
)
EXTERNAL = ENTITIES.format('<!ENTITY secret SYSTEM "file:///etc/passwd">', "secret")


@pytest.mark.parametrize("text", [BOMB, EXTERNAL])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "utf-8-sig"])
def test_entities_are_never_expanded(folder: Any, text: str, encoding: str) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9)), "z": ""})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    (folder.root / "Annotations/z.xml").write_bytes(text.encode(encoding))
    (finding,) = folder.check(labels=VOC)[1].errors
    assert finding.kind == "broken_label_file"
    assert "declares entities" in finding.message


def test_files_of_archive_tools_are_not_annotations(folder: Any) -> None:
    write_voc(folder, "train", {"a": voc_object((1, 1, 9, 9))})
    write_voc(folder, "val", {"b": voc_object((1, 1, 9, 9))})
    for name in ("Annotations/__MACOSX/._a.xml", "Annotations/._a.xml", "images/__MACOSX/a.png", "images/._a.png"):
        folder.text(name, "resource fork")
    labels = [VOC[0] | {"image_sets": None}]
    _, report = folder.check(labels=labels, splits={"train": "train", "val": "val"})
    assert not [finding for finding in report.findings if "MACOSX" in str(finding) or "._a" in str(finding)]
