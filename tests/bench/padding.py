"""Share of padded pixels with and without `group_by_aspect`: `python -m tests.bench.padding` prints a table."""

from pathlib import Path

import numpy as np

from pipelines.base.records import ImageRecord
from pipelines.data.loading.planned_sample import fitted_size
from pipelines.data.loading.sample import padded_size
from pipelines.data.loading.sampling.create import create_train_sampler
from pipelines.spec.data import DataSpec

NUM_IMAGES = 4000
IMAGE_SIZE = 640
PHOTOS = [(480, 640), (640, 480), (640, 640), (360, 640), (427, 640), (640, 427)]


def main() -> None:
    """Print the table of docs/augmentation.md."""
    rng = np.random.default_rng(1)
    landscape = [(480, 640) if number % 10 < 7 else (640, 480) for number in range(NUM_IMAGES)]
    photos = [PHOTOS[kind] for kind in rng.integers(len(PHOTOS), size=NUM_IMAGES)]
    crops = [
        (640, round(640 * aspect)) if aspect < 1 else (round(640 / aspect), 640)
        for aspect in np.exp(rng.uniform(-0.7, 0.7, NUM_IMAGES)).tolist()
    ]
    for name, sizes in (("70 % 4:3, 30 % 3:4", landscape), ("six usual ones", photos), ("1:2 to 2:1", crops)):
        for batch_size in (4, 16):
            shares = [f"{padded_share(sizes, batch_size, is_grouped):.1%}" for is_grouped in (False, True)]
            print(f"| {name} | {batch_size} | {' | '.join(shares)} |".replace("%", " %").replace("  %", " %"))


def padded_share(sizes_hw: list[tuple[int, int]], batch_size: int, is_grouped: bool) -> float:
    """Return the share of the pixels of an epoch's batches that are padding."""
    records = [
        ImageRecord(number, "a", "train", f"{number}.png", Path(f"{number}.png"), *size_hw, {"boxes": []})
        for number, size_hw in enumerate(sizes_hw)
    ]
    source = {
        "images": ".",
        "labels": [{"format": "coco", "path": "x.json", "tasks": ["boxes"]}],
        "batch_size": batch_size,
        "sampler": {"kind": "shuffle", "group_by_aspect": is_grouped},
    }
    spec = DataSpec.model_validate({"root": "x", "sources": {"a": source}})
    pixels = computed = 0
    for batch in create_train_sampler(spec, ["boxes"], records, seed=0).batches(0):
        fitted = [fitted_size(sizes_hw[key.index], IMAGE_SIZE) for key in batch]
        height, width = padded_size((max(h for h, _ in fitted), max(w for _, w in fitted)))
        pixels += sum(h * w for h, w in fitted)
        computed += height * width * len(batch)
    return 1 - pixels / computed


if __name__ == "__main__":
    main()
