"""Compare the scorer of detections with pycocotools, as a Markdown table: CPU time, peak memory, largest difference.

Each scorer has a process of its own, which generates the same boxes: 80 classes, labels near a tenth of the detections.
The memory is the peak of that process, with the generated boxes in it; CPU time is that of all threads while scoring.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

from pipelines.tasks.detection.schemas import COCO_NUMBERS
from pipelines.tasks.detection.scoring.boxes import CocoFile, FoundBoxes
from pipelines.tasks.detection.scoring.coco_scores import score_coco
from tests.bench.runs import hardware, markdown

NUM_CLASSES, SIZE_PX = 80, 640
PYCOCOTOOLS = "pycocotools"


def generate(num_images: int, per_image: int) -> tuple[CocoFile, FoundBoxes]:
    """Return a ground truth and detections that find it more or less well."""
    rng = np.random.default_rng(0)
    number = num_images * per_image
    sides = np.exp(rng.uniform(np.log(8), np.log(300), (number, 2)))
    boxes = np.round(np.concatenate([rng.uniform(0, 1, (number, 2)) * (SIZE_PX - sides), sides], axis=1), 2)
    images = np.repeat(np.arange(1, num_images + 1), per_image)
    classes = rng.integers(1, NUM_CLASSES + 1, number)
    is_object = np.arange(number) % 10 == 0
    scores = np.where(is_object, rng.beta(4, 2, number), rng.beta(1, 6, number))
    labels = (boxes + sides[:, [0, 1, 0, 1]] * rng.normal(0, 0.08, boxes.shape))[is_object]
    labels[:, 2:] = np.maximum(labels[:, 2:], 1)
    annotations = [
        {"id": i, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for i, (image, label, box) in enumerate(
            zip(images[is_object].tolist(), classes[is_object].tolist(), labels.tolist(), strict=True), start=1
        )
    ]
    truth = {
        "images": [{"id": i, "width": SIZE_PX, "height": SIZE_PX} for i in range(1, num_images + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, NUM_CLASSES + 1)],
    }
    return truth, FoundBoxes(images, classes, boxes, scores)


def score_by_pycocotools(ground_truth: CocoFile, found: FoundBoxes) -> dict[str, float]:
    """Return pycocotools' numbers."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = ground_truth
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        columns = [found.image_ids, found.boxes_xywh, found.scores, found.category_ids]
        evaluation = COCOeval(truth, truth.loadRes(np.column_stack(columns)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(COCO_NUMBERS, evaluation.stats.tolist(), strict=True))


def measure(scorer: str, num_images: int, per_image: int) -> dict[str, Any]:
    """Return CPU time, peak memory and numbers of one scorer, in this process."""
    ground_truth, found = generate(num_images, per_image)
    started = time.process_time()
    if scorer == PYCOCOTOOLS:
        numbers: dict[str, Any] = score_by_pycocotools(ground_truth, found)
    else:
        numbers = score_coco(ground_truth, found)["coco"]
    cpu_s = time.process_time() - started
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"cpu_s": cpu_s, "peak_bytes": peak_bytes, "numbers": numbers}


def main() -> None:
    """Print the table, or measure one scorer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000, help="number of images (default: 5000)")
    parser.add_argument("--per-image", type=int, default=100, help="detections per image (default: 100)")
    parser.add_argument("--scorer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scorer:
        print(json.dumps(measure(options.scorer, options.images, options.per_image)))
        return
    results = {}
    for scorer in ("pyramidion", PYCOCOTOOLS):
        command = [sys.executable, "-m", "tests.bench.scorer", *sys.argv[1:], "--scorer", scorer]
        results[scorer] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    expected = results[PYCOCOTOOLS]["numbers"]
    rows = {
        scorer: [
            f"{result['cpu_s']:.2f}",
            f"{result['peak_bytes'] / 2**30:.2f}",
            f"{max(abs(result['numbers'][name] - expected[name]) for name in COCO_NUMBERS):.0e}",
        ]
        for scorer, result in results.items()
    }
    title = f"{options.images:,} images, {options.images * options.per_image:,} detections"
    print(markdown(title, ["CPU s", "peak memory (GiB)", "largest difference of the twelve numbers"], rows))
    print(f"{hardware()}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
