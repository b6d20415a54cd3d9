"""The same images and labels as files of every format, as other programs export them."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("cat", "dog")
SIZE_HW = (48, 64)
SPLITS = {"train": range(12), "val": range(12, 18), "test": range(18, 22)}


def boxes_of(number: int) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Return the class and the left, top, width, height of each box of an image."""
    first = (CLASSES[number % 2], (4 + number, 6, 20, 16))
    second = (CLASSES[(number + 1) % 2], (30, 24 + number % 4, 24, 18))
    return [first, second] if number % 3 else [first]


def write_image(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 255, (4, 5, 3), dtype=np.uint8))
    image = coarse.resize(SIZE_HW[::-1], Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for name, (x, y, width, height) in boxes_of(number):
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill="red" if name == "cat" else "blue")
    image.save(path)


def coco_file(numbers: Any, prefix: str = "") -> str:
    images, annotations = [], []
    for number in numbers:
        file_name = f"{prefix}{number:03d}.png"
        images.append({"id": number, "file_name": file_name, "height": SIZE_HW[0], "width": SIZE_HW[1]})
        for name, box in boxes_of(number):
            annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": CLASSES.index(name)}
            annotations.append(annotation | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def write_coco(root: Path, splits: Mapping[str, Any] = SPLITS) -> None:
    for split, numbers in splits.items():
        text(root / f"annotations/instances_{split}2017.json", coco_file(numbers))
        for number in numbers:
            write_image(root / f"{split}2017/{number:03d}.png", number)


def write_coco_without_splits(root: Path) -> None:
    numbers = [number for found in SPLITS.values() for number in found]
    text(root / "labels.json", coco_file(numbers))
    for number in numbers:
        write_image(root / f"photos/{number:03d}.png", number)


def write_roboflow_coco(root: Path) -> None:
    text(root / "README.roboflow.txt", "exported\n")
    for split, numbers in SPLITS.items():
        folder = root / split.replace("val", "valid")
        text(folder / "_annotations.coco.json", coco_file(numbers))
        for number in numbers:
            write_image(folder / f"{number:03d}.png", number)


def write_voc(root: Path, splits: Mapping[str, Any] = SPLITS, sets: bool = True) -> None:
    for split, numbers in splits.items():
        if sets:
            text(root / f"ImageSets/Main/{split}.txt", "".join(f"{number:03d}\n" for number in numbers))
        for number in numbers:
            write_image(root / f"JPEGImages/{number:03d}.png", number)
            text(root / f"Annotations/{number:03d}.xml", voc_file(number))


def voc_file(number: int) -> str:
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax>"
        f"<ymax>{y + h}</ymax></bndbox></object>"
        for name, (x, y, w, h) in boxes_of(number)
    )
    size = f"<size><width>{SIZE_HW[1]}</width><height>{SIZE_HW[0]}</height></size>"
    return f"<annotation><filename>{number:03d}.png</filename>{size}{objects}</annotation>"


def yolo_rows(number: int) -> str:
    height, width = SIZE_HW
    return "".join(
        f"{CLASSES.index(name)} {(x + w / 2) / width:.6f} {(y + h / 2) / height:.6f} {w / width:.6f} {h / height:.6f}\n"
        for name, (x, y, w, h) in boxes_of(number)
    )


def write_yolo(root: Path) -> None:
    text(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog]\n")
    _write_yolo_files(root, lambda split, kind: f"{kind}/{split}")


def write_yolo_without_yaml(root: Path) -> None:
    text(root / "classes.txt", "cat\ndog\n")
    _write_yolo_files(root, lambda split, kind: f"{kind}/{split}")


def write_roboflow_yolo(root: Path) -> None:
    lines = ["train: ../train/images", "val: ../valid/images", "test: ../test/images", "nc: 2", "names: ['cat', 'dog']"]
    text(root / "data.yaml", "\n".join([*lines, "roboflow:", "  workspace: w", ""]))
    _write_yolo_files(root, lambda split, kind: f"{split.replace('val', 'valid')}/{kind}")


def _write_yolo_files(root: Path, folder: Callable[[str, str], str]) -> None:
    for split, numbers in SPLITS.items():
        for number in numbers:
            write_image(root / folder(split, "images") / f"{number:03d}.png", number)
            text(root / folder(split, "labels") / f"{number:03d}.txt", yolo_rows(number))


def write_cvat(root: Path) -> None:
    images = []
    for split, numbers in SPLITS.items():
        for number in numbers:
            write_image(root / f"images/{split}/{number:03d}.png", number)
            boxes = "".join(
                f'<box label="{name}" occluded="0" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}" z_order="0"></box>'
                for name, (x, y, w, h) in boxes_of(number)
            )
            subset = split.replace("train", "Train").replace("val", "Validation").replace("test", "Test")
            attributes = f'id="{number}" name="{number:03d}.png" subset="{subset}" width="{SIZE_HW[1]}"'
            images.append(f'<image {attributes} height="{SIZE_HW[0]}">{boxes}</image>')
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    meta = f"<version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    text(root / "annotations.xml", f'<?xml version="1.0"?><annotations>{meta}{"".join(images)}</annotations>')


def write_label_studio(root: Path) -> None:
    tasks = []
    for number in (number for numbers in SPLITS.values() for number in numbers):
        write_image(root / f"images/{number:03d}.png", number)
        height, width = SIZE_HW
        regions = [
            {
                "type": "rectanglelabels", "from_name": "label", "to_name": "image",
                "original_width": width, "original_height": height, "image_rotation": 0,
                "value": {
                    "x": 100 * x / width, "y": 100 * y / height, "width": 100 * w / width, "height": 100 * h / height,
                    "rotation": 0, "rectanglelabels": [name],
                },
            }
            for name, (x, y, w, h) in boxes_of(number)
        ]  # fmt: skip
        data = {"image": f"/data/upload/1/0123abcd-{number:03d}.png"}
        tasks.append({"id": number, "data": data, "annotations": [{"id": number, "result": regions}]})
    text(root / "project-1.json", json.dumps(tasks))


def write_datumaro(root: Path) -> None:
    labels = [{"name": name, "parent": "", "attributes": []} for name in CLASSES]
    for split, numbers in SPLITS.items():
        items = []
        for number in numbers:
            write_image(root / f"images/{split}/{number:03d}.png", number)
            boxes = [
                {"id": 0, "type": "bbox", "label_id": CLASSES.index(name), "bbox": list(box), "attributes": {}}
                for name, box in boxes_of(number)
            ]
            image = {"path": f"{number:03d}.png", "size": list(SIZE_HW)}
            items.append({"id": f"{number:03d}", "annotations": boxes, "image": image})
        document = {"info": {}, "categories": {"label": {"labels": labels}}, "items": items}
        text(root / f"annotations/{split}.json", json.dumps(document))


def write_csv(root: Path) -> None:
    rows = []
    for split, numbers in SPLITS.items():
        for number in numbers:
            write_image(root / f"images/{number:03d}.png", number)
            rows.append(f"{number:03d}.png,{CLASSES[number % 2]},{split},{number / 7:.3f}")
    text(root / "labels.csv", "image,label,split,score\n" + "\n".join(rows) + "\n")


def write_image_folder(root: Path) -> None:
    for split, numbers in SPLITS.items():
        for number in numbers:
            write_image(root / split / CLASSES[number % 2] / f"{number:03d}.png", number)


def write_class_folders(root: Path) -> None:
    for numbers in SPLITS.values():
        for number in numbers:
            write_image(root / CLASSES[number % 2] / f"{number:03d}.png", number)


FORMATS: dict[str, tuple[Callable[[Path], None], str]] = {
    "coco": (write_coco, "coco"),
    "coco_without_splits": (write_coco_without_splits, "coco"),
    "roboflow_coco": (write_roboflow_coco, "coco"),
    "voc": (write_voc, "voc"),
    "voc_without_sets": (lambda root: write_voc(root, sets=False), "voc"),
    "yolo": (write_yolo, "yolo"),
    "yolo_without_yaml": (write_yolo_without_yaml, "yolo"),
    "roboflow_yolo": (write_roboflow_yolo, "yolo"),
    "cvat": (write_cvat, "cvat"),
    "label_studio": (write_label_studio, "label_studio"),
    "datumaro": (write_datumaro, "datumaro"),
    "csv": (write_csv, "csv"),
    "image_folder": (write_image_folder, "image_folder"),
    "class_folders": (write_class_folders, "image_folder"),
}
"""Functions that write the data set, and the name of the format, by a name for tests."""

WITHOUT_VAL = frozenset({"label_studio", "coco_without_splits", "voc_without_sets", "class_folders"})


def write_clutter(root: Path) -> None:
    """Add what archives, file servers and other programs leave behind."""
    text(root / "__MACOSX/._001.png", "x")
    text(root / ".DS_Store", "x")
    text(root / ".cache/data.json", '{"images": []}')
    text(root / "readme.txt", "Thank you.\n")
    text(root / "meta.json", "[1, 2")
    text(root / "settings.yaml", "a: 1\n")
    text(root / "page.xml", "<html></html>")
    text(root / "table.csv", "a,b\n1,2\n")


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def without(root: Path, suffix: str) -> None:
    """Remove the files with a suffix, and folders that are empty then."""
    for path in sorted(root.rglob(f"*{suffix}"), reverse=True):
        path.unlink()
    for path in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        if not any(path.iterdir()):
            shutil.rmtree(path)
