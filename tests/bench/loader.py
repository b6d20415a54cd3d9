"""Compare the time per training image of the loader with torchvision's transforms, as a Markdown table.

The operations are those of recipe:bccd: decode, zoom with crop or padding, flips, color, 240x320 pixels, and the boxes
along with the pixels; reading the file and collating the batch are included. Of several orders of torchvision's
transforms, the table has the fastest. Without BCCD below PYRAMIDION_DATA_ROOTS, JPEG files of 640x480 are generated.
Rounds alternate (A-B-A-B) in one process on one thread; the figures are medians of CPU time, which other load on the
machine affects less than wall time.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from pipelines.base.records import BoxLabel, ImageRecord
from pipelines.data.dataset.index import build_index
from pipelines.data.loading.collate import Collate
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import SampleKey, Stream, random_numbers
from pipelines.data.source_images import read_source_image, read_source_pixels
from pipelines.run_folder.layout import CACHE_VARIABLE
from pipelines.spec.data import DataSpec
from pipelines.spec.load import load_job
from tests.bench.runs import hardware, markdown

BATCH_SIZE = 4
SIZE_HW, ZOOM, P_COLOR = (240, 320), (0.75, 1.33), 0.8
PADDED_HW = (256, 320)


def write_photos(root: Path, number: int) -> None:
    """Write a folder `bccd` with generated JPEG files of 640x480 pixels and 12 boxes each."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    noise = rng.normal(0, 6, (480, 640, 3))
    for i in range(1, number + 1):
        blocks = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(blocks).resize((640, 480), Image.Resampling.BICUBIC)) + noise
        path = root / "bccd/JPEGImages" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        images.append({"id": i, "file_name": path.name, "width": 640, "height": 480})
        for box in range(12):
            x, y = rng.uniform(0, 500), rng.uniform(0, 350)
            row = {"id": 12 * i + box, "image_id": i, "category_id": 1, "bbox": [x, y, 100.0, 100.0], "area": 1e4}
            annotations.append(row | {"iscrowd": 0})
    categories = [{"id": 1, "name": "cell"}]
    for split, part in (("train", slice(2, None)), ("val", slice(0, 1)), ("test", slice(1, 2))):
        ids = {image["id"] for image in images[part]}
        of_split = [row for row in annotations if row["image_id"] in ids]
        path = root / f"bccd/annotations/instances_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": images[part], "annotations": of_split, "categories": categories}))


def load_data(root: Path) -> JobData:
    """Return the data of recipe:bccd without cache and workers."""
    job = load_job(["recipe:bccd"], [("data.cache", "none"), ("data.num_workers", "0")])
    index, report = build_index(job, root / "bccd")
    report.raise_errors()
    return JobData(job.data, job.model.tasks, index, seed=0)


def peer_orders() -> dict[str, v2.Transform]:
    """Return the orders of torchvision's transforms that are compared. All resize uint8 once or twice."""

    def color(**limits: float) -> v2.Transform:
        return v2.RandomApply([v2.ColorJitter(**limits)], p=P_COLOR)

    resize, zoom = v2.Resize(SIZE_HW), v2.ScaleJitter(SIZE_HW, ZOOM)
    crop = v2.RandomCrop(SIZE_HW, pad_if_needed=True)
    flips = [v2.RandomHorizontalFlip(0.5), v2.RandomVerticalFlip(0.5)]
    three = [color(brightness=0.25), color(contrast=0.25), color(saturation=0.3)]
    colors = [v2.RandomApply([v2.Lambda(_cast, tv_tensors.Image)], p=P_COLOR), *three]
    end = v2.SanitizeBoundingBoxes(min_size=1)
    return {
        "zoom, crop, flip, color": v2.Compose([zoom, crop, *flips, *colors, end]),
        "zoom, color, crop, flip": v2.Compose([zoom, *colors, crop, *flips, end]),
        "zoom, crop, flip, color with hue instead of a cast": v2.Compose(
            [zoom, crop, *flips, color(hue=0.02), *three, end]
        ),
        "resize, flip, color, zoom, crop": v2.Compose([resize, *flips, *colors, zoom, crop, end]),
    }


def _cast(image: Tensor) -> Tensor:
    """Return the image with a color cast, for which torchvision has no transform."""
    gains = torch.empty(3, 1, 1).uniform_(0.9, 1.1)
    return tv_tensors.wrap(image.mul(gains).clamp_(0, 255).to(torch.uint8), like=image)


class PeerLoader:
    """Batches by torchvision: `read_file`, `decode_jpeg`, transforms on uint8, and the same padding."""

    def __init__(self, records: Iterable[ImageRecord], transform: v2.Transform) -> None:
        self.transform = transform
        self.items = []
        for record in records:
            boxes = [label for label in record.labels["cells"] if isinstance(label, BoxLabel)]
            xywh = torch.tensor([box.bbox_xywh for box in boxes]).reshape(-1, 4)
            boxes_xyxy = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1)
            self.items.append((str(record.path), boxes_xyxy, torch.zeros(len(boxes), dtype=torch.int64)))

    def batches(self) -> Iterable[Tensor]:
        """Yield the images of one epoch."""
        for start in range(0, len(self.items), BATCH_SIZE):
            samples = [self.sample(*item) for item in self.items[start : start + BATCH_SIZE]]
            images = torch.zeros(len(samples), 3, *PADDED_HW, dtype=torch.uint8)
            for padded, sample in zip(images, samples, strict=True):
                padded[:, : SIZE_HW[0], : SIZE_HW[1]] = sample["image"]
            yield images

    def sample(self, path: str, boxes_xyxy: Tensor, labels: Tensor) -> dict[str, Any]:
        """Return one transformed image with its boxes and labels."""
        image = decode(path)
        boxes = tv_tensors.BoundingBoxes(boxes_xyxy, format="XYXY", canvas_size=image.shape[-2:])
        sample: dict[str, Any] = self.transform({"image": tv_tensors.Image(image), "boxes": boxes, "labels": labels})
        return sample


def cpu_ms(work: Callable[[], Any], number: int) -> float:
    """Return the CPU time in ms per image of work on `number` images."""
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started) / number


def compare(data: JobData, repeats: int) -> str:
    """Return the table of both loaders."""

    def peer(loader: PeerLoader) -> Callable[[], None]:
        return lambda: consume(loader.batches())

    records = list(data.records("train"))
    loader = data.train_dataloader()
    cases: dict[str, Callable[[], Any]] = {"pyramidion": lambda: consume(loader)}
    for name, order in peer_orders().items():
        cases[f"torchvision: {name}"] = peer(PeerLoader(records, order))
    torch.manual_seed(0)
    rounds = [[cpu_ms(work, len(records)) for work in cases.values()] for _ in range(repeats + 1)][1:]
    medians = dict(zip(cases, map(statistics.median, zip(*rounds, strict=True)), strict=True))
    ours = medians["pyramidion"]
    rows = {name: [f"{median:.2f}", f"{median / ours:.2f}"] for name, median in medians.items()}
    return markdown("A training image with its boxes", ["CPU ms", "relative"], rows)


def parts(data: JobData, repeats: int) -> str:
    """Return the table of the loader's parts."""

    def each(work: Callable[[int], Any]) -> Callable[[], Any]:
        return lambda: consume(map(work, range(len(records))))

    dataset, records = data.dataset("train", augmented=True), list(data.records("train"))
    spec: DataSpec = data.spec
    pixels = [read_source_pixels(record.path, record.source, spec.sources[record.source]) for record in records]
    images = [torch.from_numpy(array).permute(2, 0, 1) for array in pixels]
    targets = [dataset.encoder.encode(record) for record in records]
    samples = [dataset[SampleKey(0, index)] for index in range(len(records))]
    collate = Collate(list(data.tasks))

    def read(index: int, reader: Callable[..., Any]) -> Any:
        record = records[index]
        return reader(record.path, record.source, spec.sources[record.source])

    def transform(index: int) -> Any:
        return dataset.transform(images[index], targets[index], random_numbers(Stream.AUGMENT, 0, 0, index))

    works = {
        "read the file": each(lambda index: records[index].path.read_bytes()),
        "read and decode, Pillow": each(lambda index: np.array(read(index, read_source_image))),
        "read and decode, torchvision": each(lambda index: decode(str(records[index].path))),
        "read and decode, the loader": each(lambda index: read(index, read_source_pixels)),
        "labels to targets": each(lambda index: dataset.encoder.encode(dataset.records[index])),
        "transform": each(transform),
        "collate": lambda: consume(collate(samples[i : i + BATCH_SIZE]) for i in range(0, len(samples), BATCH_SIZE)),
    }
    rounds = [[cpu_ms(work, len(records)) for work in works.values()] for _ in range(repeats + 1)][1:]
    medians = map(statistics.median, zip(*rounds, strict=True))
    return markdown("Parts", ["CPU ms"], {name: [f"{ms:.2f}"] for name, ms in zip(works, medians, strict=True)})


def consume(values: Iterable[Any]) -> None:
    """Iterate without keeping anything, as a training does."""
    for _ in values:
        pass


def decode(path: str) -> Tensor:
    """Return the image (3, H, W) uint8 that torchvision reads."""
    image: Tensor = decode_jpeg(read_file(path), mode=ImageReadMode.RGB)
    return image


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="number of rounds (default: 7)")
    parser.add_argument("--images", type=int, default=64, help="number of generated images, without BCCD (default: 64)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    roots = [Path(root) for root in filter(None, os.environ.get("PYRAMIDION_DATA_ROOTS", "").split(os.pathsep))]
    root = next((root for root in roots if (root / "bccd/annotations/instances_train.json").is_file()), None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = str(Path(folder, "cache"))
        if root is None:
            root = Path(folder)
            write_photos(root, options.images)
        data = load_data(root)
        print(compare(data, options.repeats))
        print(parts(data, options.repeats))
    print(f"{hardware()}, one thread, load {os.getloadavg()[0]:.1f}; medians of {options.repeats} rounds")


if __name__ == "__main__":
    main()
