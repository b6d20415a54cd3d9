"""Contract tests of label formats: of every row of the catalog, and of a format that is defined here."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import pytest
from pydantic import TypeAdapter

from pipelines.base.paths import RelativePath
from pipelines.base.records import DatasetIndex
from pipelines.data.dataset.index import build_index
from pipelines.formats.catalog import FORMATS, Layer, formats_that_give, name_of
from pipelines.formats.layer import LabelKind, LabelLayer
from pipelines.formats.layer_content import FileBox, FileImage, LayerContent
from pipelines.formats.source_split import SourceSplit

REQUIRED = {"path": "labels/{split}", "column": "kind"}


class CenterLayer(LabelLayer):
    """Lines `image class x_center y_center width height` relative to the image size, as in YOLO's files."""

    GIVES: ClassVar[frozenset[LabelKind]] = frozenset({"boxes"})

    format: Literal["center"]
    path: RelativePath

    def paths(self, images: str) -> dict[str, str]:
        return {"path": self.path}

    def read(self, split: SourceSplit, identity_fields: Collection[str]) -> LayerContent | None:
        path = split.path(self.path)
        if not path.is_file():
            return None
        content = LayerContent(file=split.fill(self.path))
        for line in path.read_text().splitlines():
            name, category, *numbers = line.split()
            x_center, y_center, width, height = map(float, numbers)
            bbox_xywh = (x_center - width / 2, y_center - height / 2, width, height)
            box = FileBox(None, category, bbox_xywh, area=width * height / 2, unit="relative")
            image = content.images.setdefault(name, FileImage(name, boxes=[]))
            assert image.boxes is not None
            image.boxes.append(box)
            content.num_read += 1
            content.category_ids.setdefault(category, set())
        return content


def layer_of(format_: type[LabelLayer], **fields: Any) -> LabelLayer:
    values = {key: value for key, value in REQUIRED.items() if key in format_.model_fields}
    return format_.model_validate({"format": name_of(format_), "tasks": ["t"]} | values | fields)


@pytest.mark.parametrize("format_", FORMATS)
def test_layer_names_one_of_its_fields_for_each_path(format_: type[LabelLayer]) -> None:
    layer = layer_of(format_)
    paths = layer.paths("images")
    assert set(paths) <= set(format_.model_fields)
    assert layer.listing("images") == next(iter(paths.values()))
    assert any("{split}" in pattern for pattern in paths.values())


@pytest.mark.parametrize("format_", FORMATS)
def test_format_provides_boxes_or_classes(format_: type[LabelLayer]) -> None:
    assert format_.GIVES & {"boxes", "classes"}
    assert set(get_args(LabelKind)) >= format_.GIVES


@pytest.mark.parametrize("format_", FORMATS)
def test_layer_without_files_of_a_split_has_no_content(format_: type[LabelLayer], tmp_path: Path) -> None:
    split = SourceSplit(tmp_path, "s", "images", {"train": "train"}, "train")
    assert layer_of(format_).read(split, set()) is None


@pytest.mark.parametrize("format_", FORMATS)
def test_layer_does_not_read_through_a_link_that_leaves_the_data_root(
    format_: type[LabelLayer], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    layer = layer_of(format_)
    link = root / layer.listing("images").replace("{split}", "train")
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path)
    split = SourceSplit(root, "s", "images", {"train": "train"}, "train")
    with pytest.raises(ValueError, match="leads out of"):
        layer.read(split, set())


def test_document_chooses_each_format_by_its_name() -> None:
    adapter: TypeAdapter[LabelLayer] = TypeAdapter(Layer)
    for format_ in FORMATS:
        assert type(adapter.validate_python(layer_of(format_).model_dump())) is format_


def test_formats_are_found_by_the_labels_that_a_task_needs() -> None:
    assert formats_that_give(frozenset({"boxes", "identities"})) == ["coco", "voc", "cvat", "label_studio", "datumaro"]
    assert formats_that_give(frozenset({"boxes"})) == ["coco", "voc", "yolo", "cvat", "label_studio", "datumaro"]
    assert formats_that_give(frozenset({"classes"})) == ["csv", "image_folder"]


def with_center_layer(folder: Any, lines: dict[str, str], labeled: Collection[str] = ("things",), **job: Any) -> Any:
    """Return the index and the report of a job whose only layer is a `CenterLayer`."""
    for split, text in lines.items():
        folder.text(f"{split}.txt", text)
    spec = folder.job(**job)
    layer = CenterLayer(format="center", path="{split}.txt", tasks=tuple(labeled))
    source = spec.data.sources["s"].model_copy(update={"labels": (layer,)})
    data = spec.data.model_copy(update={"sources": {"s": source}})
    return build_index(spec.model_copy(update={"data": data}), folder.root)


def test_relative_boxes_are_resolved_with_the_measured_size(folder: Any) -> None:
    folder.image("a.png", size_hw=(40, 60))
    folder.image("b.png", size_hw=(80, 20))
    line = "cat 0.5 0.25 0.5 0.25\n"
    index, report = with_center_layer(folder, {"train": f"a.png {line}b.png {line}", "val": f"a.png {line}"})
    assert isinstance(index, DatasetIndex)
    boxes = [record.labels["things"][0] for record in index.records["train"]]
    assert [box.bbox_xywh for box in boxes] == [(15, 5, 30, 10), (5, 10, 10, 20)]
    assert [box.area for box in boxes] == [150, 100]
    assert report.layers[0].kept == 2


def test_relative_box_that_leaves_the_image_is_clipped_and_shown_in_pixels(folder: Any) -> None:
    folder.image("a.png", size_hw=(40, 60))
    folder.image("b.png", size_hw=(40, 60))
    lines = {"train": "a.png cat 1.0 0.5 0.5 0.5\na.png cat 2.0 0.5 0.5 0.5\n", "val": "b.png cat 0.5 0.5 1 1\n"}
    index, report = with_center_layer(folder, lines)
    (box,) = index.records["train"][0].labels["things"]
    assert box.bbox_xywh == (45, 10, 15, 20)
    assert [finding.kind for finding in report.warnings if finding.split == "train"] == ["out_of_image_box"] * 2
    assert "(45, 10, 30, 20)" in str(report.warnings[0])
    assert json.loads(report.to_json())["layers"][0]["adds_up"]


def test_task_that_needs_identities_is_rejected_for_a_format_without_them(folder: Any) -> None:
    folder.image("a.png")
    tasks = folder.tasks | {"lookup": {"head": "embedding", "of": "objects"}}
    labels = [folder.labels[0] | {"tasks": ["things", "lookup"]}]
    _, report = with_center_layer(
        folder, {"train": "a.png cat 0.5 0.5 1 1\n"}, ("things", "lookup"), tasks=tasks, labels=labels
    )
    assert [finding.message for finding in report.errors if finding.kind == "wrong_layer"] == [
        "the task 'lookup' learns from boxes and identities, which the format 'center' does not have; "
        "use one of coco, voc, cvat, label_studio, datumaro"
    ]
