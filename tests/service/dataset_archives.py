"""Data sets and archives for tests."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image


def write_dataset(folder: Path) -> None:
    """Write a detection data set with two images per split."""
    for split in ("train", "val"):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        names = [f"{split}{number}.png" for number in (1, 2)]
        for number, name in enumerate(names):
            Image.new("RGB", (64, 48), (9, 90 * number, 200 if split == "val" else 0)).save(folder / "images" / name)
        images = [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(names, 1)]
        boxes = [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [8, 8, 20, 16], "area": 320, "iscrowd": 0}
            for i in (1, 2)
        ]
        coco = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "box"}]}
        (folder / f"{split}.json").write_text(json.dumps(coco), "utf-8")


def zipped(folder: Path) -> bytes:
    """Return a folder's files as a zip; the same files give the same bytes."""
    return zip_of({path.relative_to(folder).as_posix(): path.read_bytes() for path in _files(folder)})


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """Return a zip with some files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def tarred(folder: Path, mode: str = "w:gz") -> bytes:
    """Return a folder as a tar file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, folder.name)
    return content.getvalue()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
