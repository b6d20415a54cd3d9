"""A small data set as a zip file, and a service with a key, for tests that use nothing but HTTP."""

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
SCOPES = ("datasets:write", "datasets:read", "jobs:write", "jobs:read", "models:read", "models:promote")
QUICK = {
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1},
    "model": {"backbone": {"name": "resnet14_thin", "weights": "none"}, "neck": {"channels": 16}},
    "data": {"image_size": 64, "num_workers": 0},
    "tracking": {"register_as": "shapes"},
}
"""Changes to the drafted document that make its training quick, without weights from the internet."""


def picture(number: int) -> bytes:
    """Return a PNG file with one square."""
    image = Image.new("RGB", (64, 48), (200, 200, 200))
    ImageDraw.Draw(image).rectangle((number, 8, number + 20, 28), fill=(220, 30, 30))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def zipped_data() -> bytes:
    """Return a zip file with images of three splits and their boxes in COCO's format."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for split, numbers in {"train": range(8), "val": range(8, 12), "test": range(12, 16)}.items():
            images = [{"id": n, "file_name": f"{n:02d}.png", "width": 64, "height": 48} for n in numbers]
            boxes = [
                {"id": n, "image_id": n, "category_id": 1, "bbox": [n, 8, 21, 21], "area": 441, "iscrowd": 0}
                for n in numbers
            ]
            coco = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "square"}]}
            archive.writestr(f"annotations/instances_{split}.json", json.dumps(coco))
            for n in numbers:
                archive.writestr(f"images/{n:02d}.png", picture(n))
    return file.getvalue()


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, str]]:
    """Run `pyramidion serve` with a key, and yield its address and the key."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("PYRAMIDION_", "MLFLOW_"))}
    environment = {**inherited, "PYTHONPATH": str(ROOT), "PYRAMIDION_GPUS": "0", "PYRAMIDION_CPUS": "2"}
    command = [sys.executable, "-P", "-m", "service.cli"]
    root = ["--root", str(folder / "root")]
    scopes = [word for scope in SCOPES for word in ("--scope", scope)]
    create = [*command, "keys", "create", "team", *scopes, *root]
    created = subprocess.run(create, env=environment, capture_output=True, text=True, check=True, timeout=120)
    with (folder / "serve.log").open("wb") as log:
        serve = [*command, "serve", *root, "--port", "0", "--data-root", str(folder)]
        process = subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "serve.log").read_text()
        yield line.split()[1].rstrip(","), created.stdout.split()[-1]
    finally:
        process.terminate()
        process.wait(60)
