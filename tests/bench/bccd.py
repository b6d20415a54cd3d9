"""Train the BCCD recipes with three seeds and print the figures of docs/benchmarks.md as tables.

Finished runs below runs/bench are reused, and a stopped run is resumed. For comparison, the tables have an untrained
model (with a learning rate of about 0) and nearest neighbors by box size only.
"""

import argparse
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.bench.runs import BENCH_DIR, Figures, Outcome, Run, execute, find_bccd, hardware, mean, report, table

RECIPES = ("bccd", "bccd_faster_rcnn", "bccd_multitask", "bccd_pretrained")
UNTRAINED = (
    "--trainer.max_epochs=1",
    "--model.optimizer.lr=1e-30",
    "--model.schedule.warmup_steps=0",
    "--model.ema=null",
    "--tracking=null",
)
MIN_TOP1_IMAGES = 3
MIN_OBJECTS = 5
WHOLE_CELLS = frozenset({"RBC", "WBC", "Platelets"})
"""Identities that are categories; the others are subtypes of white cells."""


def training(recipe: str, seed: int, *, trained: bool = True) -> Run:
    """Return the training of a recipe, or a run with a learning rate of about 0 as the untrained model."""
    name = f"{recipe}-{seed}" if trained else f"{recipe}-untrained-{seed}"
    options = (f"--config=recipe:{recipe}", f"--seed_everything={seed}")
    return Run(name, options if trained else (*options, *UNTRAINED))


def figures(result: dict[str, Any]) -> Figures:
    """Return the figures of the benchmark page from a result.json."""
    found = {"AP50": result["tasks"]["cells"]["coco"]["AP50"], "AP": result["tasks"]["cells"]["coco"]["AP"]}
    if subtype := result["tasks"].get("subtype"):
        found[f"subtype top-1 macro recall (>= {MIN_TOP1_IMAGES} images)"] = mean(
            row["top1_recall"] for row in subtype["per_class"] if row["top1_support"] >= MIN_TOP1_IMAGES
        )
    if lookup := result["tasks"].get("lookup"):
        scores = {row["identity"]: (row["support"], row["recall_at_1"]) for row in lookup["per_class"]}
        found |= neighbor_figures(scores)
    return found


def neighbor_figures(scores: dict[str, tuple[int, float]]) -> Figures:
    """Return the macro means over identities, given (number of queries, recall at 1) by identity."""
    enough = {name: recall for name, (support, recall) in scores.items() if support >= MIN_OBJECTS}
    return {
        "1-NN macro, white-cell subtypes": mean(enough[name] for name in enough.keys() - WHOLE_CELLS),
        "1-NN macro, all identities": mean(enough.values()),
    }


def box_size_figures(train: dict[str, Any], test: dict[str, Any]) -> Figures:
    """Return the figures of nearest neighbors in (log width, log height), with test as queries and train as gallery.

    Args:
        train, test: COCO documents.
    """
    gallery = list(_sizes(train))
    right: dict[str, list[float]] = defaultdict(list)
    for identity, width, height in _sizes(test):
        nearest = min(gallery, key=lambda item: (item[1] - width) ** 2 + (item[2] - height) ** 2)
        right[identity].append(float(nearest[0] == identity))
    return neighbor_figures({name: (len(hits), mean(hits)) for name, hits in right.items()})


def _sizes(coco: dict[str, Any]) -> Iterable[tuple[str, float, float]]:
    for annotation in coco["annotations"]:
        _, _, width, height = annotation["bbox"]
        if annotation.get("identity") and width > 0 and height > 0:
            yield annotation["identity"], math.log(width), math.log(height)


def with_time(outcome: Outcome) -> Figures:
    """Return the figures of a run and its wall time."""
    return {**figures(outcome.result), "wall time (s)": outcome.wall_s}


def main() -> None:
    """Run the missing trainings one after the other, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=RECIPES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=BENCH_DIR)
    options = parser.parse_args()
    bccd = find_bccd()
    os.environ["PYRAMIDION_DATA_ROOTS"] = str(bccd.parent)
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    read = {
        split: json.loads((bccd / f"annotations/instances_{split}.json").read_text()) for split in ("train", "test")
    }
    parts = [f"{hardware()}; mean (lowest to highest) of the seeds {', '.join(map(str, options.seeds))}.\n"]
    for recipe in options.recipes:
        columns = {
            "trained": [with_time(execute(training(recipe, seed), out)) for seed in options.seeds],
            "untrained": [with_time(execute(training(recipe, options.seeds[0], trained=False), out))],
        }
        if recipe == "bccd_multitask":
            columns["box size only"] = [box_size_figures(read["train"], read["test"])]
        parts.append(table(f"recipe:{recipe}", columns))
    report(parts, out / "bccd.md")


if __name__ == "__main__":
    main()
