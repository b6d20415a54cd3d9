"""A run folder with evaluated detections of the data set of `write_dataset`, and a classification of its images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import resolved, validate_document, write_yaml
from pipelines.spec.result import RunResult
from pipelines.tasks.detection.scoring.boxes import FoundBoxes
from pipelines.tasks.detection.scoring.coco_scores import score_coco
from pipelines.tasks.detection.scoring.worst_images import worst_images
from tests.service.run_folders import write_classified_run

BOX, OTHER = [8.0, 8.0, 20.0, 16.0], [40.0, 20.0, 20.0, 20.0]
HOSTILE = '<b onmouseover="x">\x1b[31m'
"""Name of the second class of the detections, `boxes`; the classes of `kind` are `a` and `b`."""


def write_evaluated_run(folder: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Write the files of an ended run, and return its result.

    The image val1.png has a box that is found, and one that is found as another class. val2.png has a missed box, and
    a detection of nothing.

    Args:
        folder: the run folder.
        document: of the job.
    """
    names = ("val1.png", "val2.png")
    write_classified_run(folder, "ab", "bb", names)
    run_dir = RunDir.of(folder)
    truth = {
        "images": [
            {"id": k, "file_name": name, "source": "shapes", "width": 64, "height": 48}
            for k, name in enumerate(names, 1)
        ],
        "categories": [{"id": 1, "name": "box"}, {"id": 2, "name": HOSTILE}],
        "annotations": [
            {"id": 10 + k, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
            for k, (image, category, box) in enumerate([(1, 1, BOX), (1, 1, OTHER), (2, 1, BOX)])
        ],
    }
    found = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in [(1, 1, BOX, 0.9), (1, 2, OTHER, 0.8), (2, 1, OTHER, 0.7)]
    ]
    thresholds = {"box": 0.5, HOSTILE: 0.5}
    boxes = {"kind": "detection", "num_images": 2, **score_coco(truth, FoundBoxes.from_rows(found), thresholds)}
    result = json.loads(run_dir.result.read_bytes())
    result["tasks"]["boxes"] = boxes
    result |= {"split": "val", "summary": {"val/boxes/AP": boxes["coco"]["AP"]}}
    content: dict[str, Any] = RunResult.model_validate(result).model_dump(mode="json")
    worst = worst_images(truth, found, thresholds).worst.model_dump_json()
    for path, text in (
        (run_dir.result, json.dumps(content)),
        (run_dir.predictions / "boxes.coco.json", json.dumps(found)),
        (run_dir.ground_truth / "boxes.coco.json", json.dumps(truth)),
        (run_dir.worst("boxes"), worst),
        (run_dir.config_yaml, write_yaml(resolved(validate_document(document)))),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return content


def add_embeddings(folder: Path, task: str, embeddings: Sequence[Sequence[float]], identities: Sequence[str]) -> None:
    """Add an embedding task to the run of `write_evaluated_run`: objects of val1.png, val2.png, val1.png and so on.

    Args:
        folder: the run folder.
        task: its name.
        embeddings: (N, D).
        identities: N names; '' where unknown.
    """
    run_dir, count = RunDir.of(folder), len(embeddings)
    numbers = np.arange(count) % 2
    np.savez(
        run_dir.predictions / f"{task}.npz",
        embedding=np.array(embeddings, dtype=np.float32),
        image_id=1 + numbers,
        source=np.full(count, "shapes"),
        file_name=np.array(["val1.png", "val2.png"])[numbers],
        annotation_id=10 + np.arange(count),
        identity=np.array(identities),
        bbox_xywh=np.tile(BOX, (count, 1)),
    )
    result = json.loads(run_dir.result.read_bytes())
    undefined = dict.fromkeys(("recall_at_1", "map_at_r", "macro_recall_at_1"))
    result["tasks"][task] = {
        "kind": "embedding", "num_images": 2, "gallery": "self", "num_gallery": count, "num_queries": count,
        "num_left_out": 0, **undefined, "macro_min_queries": 1, "per_class": [],
    }  # fmt: skip
    run_dir.result.write_text(json.dumps(result), "utf-8")
