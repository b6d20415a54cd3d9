"""Run folders with the results of a classification task, small enough to compute their numbers by hand."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_classified_run(folder: Path, truths: str, predicted: str, names: Sequence[str] = ()) -> None:
    """Write the results of images with the classes `a` and `b`.

    Args:
        folder: the run folder.
        truths: the class of each image, such as `aabb`.
        predicted: the class that has the score 0.9; the other one has 0.1.
        names: of the images; by default 0.png, 1.png and so on.
    """
    (folder / "predictions").mkdir(parents=True)
    with (folder / "predictions" / "kind.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_id", "file_name", "source", "is_labeled", "labels", "score:a", "score:b"])
        for number, (truth, found) in enumerate(zip(truths, predicted, strict=True)):
            name = names[number] if names else f"{number}.png"
            table.writerow([number, name, "s", "true", truth, *([0.9, 0.1] if found == "a" else [0.1, 0.9])])
    (folder / "result.json").write_text(json.dumps(_result(truths, predicted)), encoding="utf-8")


def _result(truths: str, predicted: str) -> dict[str, Any]:
    hits = {name: sum(t == p == name for t, p in zip(truths, predicted, strict=True)) for name in "ab"}
    empty = {"precision": None, "f1": None, "ap": None, "top1_support": 0, "top1_recall": None}
    rows = [
        {"category_id": number, "label": name, "support": truths.count(name), **empty}
        | {"recall": hits[name] / truths.count(name)}
        for number, name in enumerate("ab", start=1)
    ]
    task = {
        "kind": "classification",
        "num_images": len(truths),
        "accuracy": sum(hits.values()) / len(truths),
        "balanced_accuracy": None,
        "macro_f1": None,
        "mAP": None,
        "top1_macro_recall": None,
        "per_class": rows,
        "confusion_matrix": None,
    }
    return {
        "schema_version": 1,
        "split": "test",
        "select": {"metric": "val/kind/accuracy", "mode": "max", "value": None},
        "summary": {},
        "tasks": {"kind": task},
        "val": None,
        "model": {},
        "timing": {},
        "versions": {},
    }
