"""The data check of a set as large as COCO: 117,000 small images with 860,000 boxes.

The set is written to a temporary folder (about 600 MB), and checked twice: the second check uses the facts about images
that the first one has stored. Then the memory of data workers is measured, and the time until the first batch.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from pipelines.data.dataset.cache.files import SETTLED_S
from pipelines.data.dataset.index import build_index
from pipelines.data.loading.datamodule import JobData
from pipelines.run_folder.layout import CACHE_VARIABLE
from pipelines.spec.job import JobSpec
from tests.bench.runs import hardware, markdown

NUM_IMAGES = {"train": 112_000, "val": 5_000}
BOXES_PER_IMAGE = 860_000 / 117_000
NUM_CLASSES = 80
SIZE_WH = (64, 48)
IMAGES_PER_FOLDER = 5_000
NUM_WORKERS = 4
SOURCES = {"s": {"images": "images", "labels": [{"format": "coco", "path": "{split}.json", "tasks": ["things"]}]}}


def write_large_set(root: Path, share: float = 1.0) -> None:
    """Write images and COCO files; `share` scales the number of images."""
    rng = np.random.default_rng(0)
    first = 1
    for split, count in NUM_IMAGES.items():
        number = max(2, round(count * share))
        document = _write_split(root, split, first, number, rng)
        first += number
        (root / f"{split}.json").write_text(json.dumps(document))


def _write_split(root: Path, split: str, first: int, number: int, rng: np.random.Generator) -> dict[str, Any]:
    width, height = SIZE_WH
    names = [f"{split}/{j // IMAGES_PER_FOLDER:03d}/{first + j:012d}.jpg" for j in range(number)]
    for name in names:
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(SIZE_WH).save(path, quality=80)
    images = [
        {"id": first + j, "file_name": name, "width": width, "height": height, "license": 1, "date_captured": "2026"}
        for j, name in enumerate(names)
    ]
    categories = [{"id": k + 1, "name": f"class {k + 1}", "supercategory": "things"} for k in range(NUM_CLASSES)]
    annotations = list(_annotations(first, rng.poisson(BOXES_PER_IMAGE, number), rng))
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def _annotations(first: int, counts: np.ndarray, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    width, height = SIZE_WH
    total = int(counts.sum())
    x, y = rng.uniform(0, width - 8, total), rng.uniform(0, height - 8, total)
    w, h = 2 + rng.random(total) * (width - x - 3), 2 + rng.random(total) * (height - y - 3)
    boxes = np.stack([x, y, w, h], axis=1).round(2).tolist()
    classes = rng.integers(1, NUM_CLASSES + 1, total).tolist()
    images = np.repeat(np.arange(first, first + len(counts)), counts).tolist()
    for number, (box, category, image) in enumerate(zip(boxes, classes, images, strict=True)):
        yield {
            "id": first * 100 + number,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": round(box[2] * box[3] * 0.7, 2),
            "iscrowd": int(number % 100 == 0),
        }


def measure(root: Path, num_batches: int) -> Iterator[tuple[str, list[str]]]:
    """Yield what was measured with its wall time and CPU time, then the memory of data workers (USS and PSS)."""
    document = {
        "name": "large",
        "model": {"backbone": {"name": "resnet18"}, "tasks": {"things": {"head": "fcos"}}},
        "data": {"root": "large", "image_size": 64, "num_workers": NUM_WORKERS, "augment": [], "sources": SOURCES},
    }
    job = JobSpec.model_validate(document)
    time.sleep(SETTLED_S)
    for name in ("first check", "second start"):
        started = _clocks()
        index, report = build_index(job, root)
        report.raise_errors()
        yield name, _since(started)
    started = _clocks()
    batches = iter(JobData(job.data, job.model.tasks, index, 0).train_dataloader())
    next(batches)
    yield "first batch", _since(started)
    for _ in range(min(num_batches, len(index.records["train"]) // 16 - 1)):
        next(batches)
    memory = [child.memory_full_info() for child in psutil.Process().children(recursive=True)]
    own, shared = (sum(getattr(one, part) for one in memory) / 2**20 for part in ("uss", "pss"))
    yield f"{len(memory)} workers together", [f"USS {own:.0f} MiB", f"PSS {shared:.0f} MiB"]


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(started: tuple[float, float]) -> list[str]:
    return [f"{now - then:.1f} s" for now, then in zip(_clocks(), started, strict=True)]


def main() -> None:
    """Write the set, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="share of the 117,000 images (default: 1)")
    parser.add_argument("--batches", type=int, default=700, help="batches before memory is read (default: 700)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = f"{folder}/cache"
        root = Path(folder, "large")
        write_large_set(root, options.share)
        print(markdown(hardware(), ["wall time", "CPU time"], dict(measure(root, options.batches))))


if __name__ == "__main__":
    main()
