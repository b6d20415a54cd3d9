"""One data set as exported by every tool: all formats give the same boxes and classes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.records import DatasetIndex
from tests.pipelines.data_folder import DataFolder

CLASSES = ["cell", "plate"]
IMAGES = {
    "train": {"a": [("cell", (10.0, 5.0, 20.0, 10.0)), ("plate", (0.0, 0.0, 30.5, 20.25))], "b": []},
    "val": {"c": [("plate", (3.0, 4.0, 57.0, 36.0))]},
}
"""Boxes in pixels of images of 60 x 40, by split and name."""
Source = dict[str, Any]


def write_images(folder: DataFolder, place: str) -> None:
    for split, images in IMAGES.items():
        for name in images:
            folder.image(f"../{place.format(split=split)}/{name}.png")


def coco_document(split: str, first_id: int = 1, extra: tuple[str, ...] = ()) -> str:
    names = [*extra, *CLASSES]
    images = [{"id": i, "file_name": f"{name}.png", "width": 60, "height": 40} for i, name in enumerate(IMAGES[split])]
    annotations = [
        {"id": 10 * i + j, "image_id": i, "category_id": names.index(label), "bbox": list(box), "iscrowd": 0}
        for i, boxes in enumerate(IMAGES[split].values())
        for j, (label, box) in enumerate(boxes)
    ]
    categories = [
        {"id": i, "name": name, "supercategory": "none" if name in extra else "blood"} for i, name in enumerate(names)
    ]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def coco(folder: DataFolder) -> Source:
    write_images(folder, "images")
    for split in IMAGES:
        folder.text(f"{split}.json", coco_document(split))
    return {"images": "images", "labels": [{"format": "coco", "path": "{split}.json"}]}


def coco_with_polygons(folder: DataFolder) -> Source:
    source = coco(folder)
    for split in IMAGES:
        document = json.loads((folder.root / f"{split}.json").read_text())
        for annotation in document["annotations"]:
            x, y, width, height = annotation.pop("bbox")
            annotation["segmentation"] = [[x, y, x + width, y, x + width, y + height]]
        folder.text(f"{split}.json", json.dumps(document))
    return source


def roboflow_coco(folder: DataFolder) -> Source:
    write_images(folder, "{split}")
    for split in IMAGES:
        folder.text(f"{split}/_annotations.coco.json", coco_document(split, extra=("blood",)))
    layer = {"format": "coco", "path": "{split}/_annotations.coco.json", "classes": {"blood": None}}
    return {"images": "{split}", "labels": [layer]}


def voc(folder: DataFolder) -> Source:
    write_images(folder, "JPEGImages")
    for split, images in IMAGES.items():
        folder.text(f"ImageSets/Main/{split}.txt", "\n".join(images))
        for name, boxes in images.items():
            objects = "".join(
                f"<object><name>{label}</name><bndbox><xmin>{round(x) + 1}</xmin><ymin>{round(y) + 1}</ymin>"
                f"<xmax>{round(x + w)}</xmax><ymax>{round(y + h)}</ymax></bndbox></object>"
                for label, (x, y, w, h) in boxes
            )
            folder.text(f"Annotations/{name}.xml", f"<annotation><filename>{name}.png</filename>{objects}</annotation>")
    return {"images": "JPEGImages", "labels": [{"format": "voc"}]}


def yolo_rows(boxes: list[Any]) -> str:
    return "".join(
        f"{CLASSES.index(label)} {(x + w / 2) / 60:.6f} {(y + h / 2) / 40:.6f} {w / 60:.6f} {h / 40:.6f}\n"
        for label, (x, y, w, h) in boxes
    )


def yolo(folder: DataFolder) -> Source:
    write_images(folder, "images/{split}")
    for split, images in IMAGES.items():
        for name, boxes in images.items():
            folder.text(f"labels/{split}/{name}.txt", yolo_rows(boxes))
    folder.text("data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cell\n  1: plate\n")
    return {"images": ".", "labels": [{"format": "yolo", "path": "data.yaml"}]}


def roboflow_yolo(folder: DataFolder) -> Source:
    places = {"train": "train", "val": "valid"}
    for split, images in IMAGES.items():
        for name, boxes in images.items():
            folder.image(f"../{places[split]}/images/{name}.png")
            folder.text(f"{places[split]}/labels/{name}.txt", yolo_rows(boxes))
    entries = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    folder.text("data.yaml", f"{entries}\nnc: 2\nnames: ['cell', 'plate']\n")
    return {"images": ".", "labels": [{"format": "yolo"}], "splits": places}


def cvat(folder: DataFolder) -> Source:
    write_images(folder, "images/{split}")
    text = "".join(
        f'<image id="0" name="{name}.png" subset="{split}" width="60" height="40">'
        + "".join(
            f'<box label="{label}" source="manual" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}" z_order="0"></box>'
            for label, (x, y, w, h) in boxes
        )
        + "</image>"
        for split, images in IMAGES.items()
        for name, boxes in images.items()
    )
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    meta = f"<meta><project><labels>{labels}</labels></project></meta>"
    folder.text("annotations.xml", f'<?xml version="1.0" encoding="utf-8"?><annotations>{meta}{text}</annotations>')
    return {"images": "images", "labels": [{"format": "cvat"}]}


def label_studio(folder: DataFolder) -> Source:
    write_images(folder, "images")
    for split, images in IMAGES.items():
        tasks = []
        for name, boxes in images.items():
            results = [
                {
                    "type": "rectanglelabels",
                    "original_width": 60,
                    "original_height": 40,
                    "value": {
                        "x": x / 0.6,
                        "y": y / 0.4,
                        "width": w / 0.6,
                        "height": h / 0.4,
                        "rotation": 0,
                        "rectanglelabels": [label],
                    },
                }
                for label, (x, y, w, h) in boxes
            ]
            data = {"image": f"/data/upload/1/0123abcd-{name}.png"}
            tasks.append({"data": data, "annotations": [{"result": results, "was_cancelled": False}]})
        folder.text(f"{split}.json", json.dumps(tasks))
    return {"images": "images", "labels": [{"format": "label_studio", "path": "{split}.json"}]}


def datumaro(folder: DataFolder) -> Source:
    write_images(folder, "images/{split}")
    labels = {"label": {"labels": [{"name": name} for name in CLASSES]}}
    for split, images in IMAGES.items():
        items = [
            {
                "id": name,
                "annotations": [
                    {"type": "bbox", "label_id": CLASSES.index(label), "bbox": list(box), "attributes": {}}
                    for label, box in boxes
                ],
                "image": {"path": f"{name}.png", "size": [40, 60]},
            }
            for name, boxes in images.items()
        ]
        folder.text(f"annotations/{split}.json", json.dumps({"categories": labels, "items": items}))
    return {"images": "images", "labels": [{"format": "datumaro"}]}


EXPORTS: dict[str, Callable[[DataFolder], Source]] = {
    write.__name__: write
    for write in (
        coco, coco_with_polygons, roboflow_coco, voc, yolo, roboflow_yolo, cvat, label_studio, datumaro,
    )
}  # fmt: skip


def index_of(folder: DataFolder, source: Source) -> tuple[DatasetIndex, Any]:
    labels = [{**layer, "tasks": ["things"]} for layer in source["labels"]]
    return folder.check(sources={"s": {**source, "labels": labels}})


@pytest.mark.parametrize("tool", EXPORTS)
def test_every_export_gives_the_same_boxes_and_classes(tool: str, tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    index, report = index_of(folder, EXPORTS[tool](folder))
    assert not report.errors
    for split, images in IMAGES.items():
        found = {Path(record.file_name).stem: record.labels["things"] for record in index.records[split]}  # type: ignore[index]
        assert found.keys() == images.keys()
        for name, boxes in images.items():
            assert [box.category for box in found[name]] == [label for label, _ in boxes]
            for box, (_, expected) in zip(found[name], boxes, strict=True):
                assert box.bbox_xywh == pytest.approx(expected, abs=0.5)
    assert [category.name for category in index.categories["things"]] == CLASSES
