"""Train the BCCD recipes with three seeds and print the figures of docs/benchmarks.md as tables.

Finished runs below runs/bench are reused, a stopped one goes on. An untrained model (a rate of nothing) and nearest
neighbours by box size alone stand beside the trained figures.
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("bccd", "bccd_multitask")
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

Figures = dict[str, float]


@dataclass(frozen=True)
class Run:
    """One training of a recipe."""

    recipe: str
    seed: int
    trained: bool
    folder: Path

    @property
    def command(self) -> list[str]:
        options = [f"--config=recipe:{self.recipe}", f"--seed_everything={self.seed}", f"--run_dir={self.folder}"]
        return [sys.executable, "-m", "service.cli", "fit", *options, *(() if self.trained else UNTRAINED)]


def mean(values: Iterable[float]) -> float:
    """Return the mean; NaN of nothing."""
    found = list(values)
    return statistics.fmean(found) if found else math.nan


def figures(result: dict[str, Any]) -> Figures:
    """Return the figures that the recipes promise, of a result.json."""
    found = {"AP50": result["tasks"]["cells"]["coco"]["AP50"], "AP": result["tasks"]["cells"]["coco"]["AP"]}
    if subtype := result["tasks"].get("subtype"):
        found[f"subtype top-1 macro recall (>= {MIN_TOP1_IMAGES} images)"] = mean(
            row["top1_recall"] for row in subtype["per_class"] if row["top1_support"] >= MIN_TOP1_IMAGES
        )
    if lookup := result["tasks"].get("lookup"):
        scores = {row["identity"]: (row["support"], row["recall_at_1"]) for row in lookup["per_class"]}
        found |= neighbour_figures(scores)
    return found


def neighbour_figures(scores: dict[str, tuple[int, float]]) -> Figures:
    """Return the macro means over identities, given (number of queries, recall at 1) by identity."""
    enough = {name: recall for name, (support, recall) in scores.items() if support >= MIN_OBJECTS}
    return {
        "1-NN macro, white-cell subtypes": mean(enough[name] for name in enough.keys() - WHOLE_CELLS),
        "1-NN macro, all identities": mean(enough.values()),
    }


def box_size_figures(train: dict[str, Any], test: dict[str, Any]) -> Figures:
    """Return what nearest neighbours in (log width, log height) find: COCO documents in, test queries in train."""
    gallery = list(_sizes(train))
    right: dict[str, list[float]] = defaultdict(list)
    for identity, width, height in _sizes(test):
        nearest = min(gallery, key=lambda item: (item[1] - width) ** 2 + (item[2] - height) ** 2)
        right[identity].append(float(nearest[0] == identity))
    return neighbour_figures({name: (len(hits), mean(hits)) for name, hits in right.items()})


def _sizes(coco: dict[str, Any]) -> Iterable[tuple[str, float, float]]:
    for annotation in coco["annotations"]:
        _, _, width, height = annotation["bbox"]
        if annotation.get("identity") and width > 0 and height > 0:
            yield annotation["identity"], math.log(width), math.log(height)


def table(title: str, columns: dict[str, Sequence[Figures]]) -> str:
    """Return a Markdown table: a row a figure; mean, lowest and highest of each column's runs."""
    names = list(dict.fromkeys(name for runs in columns.values() for run in runs for name in run))
    lines = [f"### {title}", "", f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name in names:
        cells = [_cell([run[name] for run in runs if name in run]) for runs in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    digits = 3 if max(values) <= 1 else 0
    spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def hardware() -> str:
    """Return the processor, the cores that may be used, and the versions."""
    import torch

    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Python {platform.python_version()}, torch {torch.__version__}"


def train(run: Run) -> None:
    """Train until the run ends; exits with the trainer's code where it did not end well."""
    with subprocess.Popen(run.command, cwd=ROOT) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # The trainer got the same Ctrl-C: it writes a checkpoint at the next step, from where it goes on later.
            code = process.wait()
    if code:
        sys.exit(f"bench: {run.folder.name} ended with {code}; `make bench-bccd` goes on from there")


def execute(run: Run, times_path: Path) -> Figures:
    """Train where no result lies yet; return the figures with the wall time of all attempts."""
    result_path = run.folder / "result.json"
    if not result_path.exists():
        print(f"== {run.folder.name}: {' '.join(run.command[1:])}", flush=True)
        started = time.monotonic()
        try:
            train(run)
        finally:
            with times_path.open("a", encoding="utf-8") as times:
                times.write(json.dumps({"run": run.folder.name, "wall_s": time.monotonic() - started}) + "\n")
    spent = [json.loads(line) for line in times_path.read_text("utf-8").splitlines()] if times_path.exists() else []
    wall_s = sum(row["wall_s"] for row in spent if row["run"] == run.folder.name)
    return {**figures(json.loads(result_path.read_text("utf-8"))), "wall time (s)": wall_s}


def find_bccd() -> Path:
    """Return the data set's folder below a root of PYRAMIDION_DATA_ROOTS; exits with a message without one."""
    named = os.environ.get("PYRAMIDION_DATA_ROOTS", "")
    for root in filter(None, named.split(os.pathsep)):
        if (Path(root) / "bccd/annotations/instances_test.json").is_file():
            return Path(root).resolve() / "bccd"
    sys.exit(
        "bench: no folder bccd with annotations/instances_test.json below PYRAMIDION_DATA_ROOTS "
        f"({named or 'not set'}); name the folder that holds bccd: PYRAMIDION_DATA_ROOTS=DIR make bench-bccd"
    )


def main() -> None:
    """Run what is missing, one after the other, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=RECIPES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "runs/bench")
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
        trained = [Run(recipe, seed, True, out / f"{recipe}-{seed}") for seed in options.seeds]
        seed = options.seeds[0]
        untrained = Run(recipe, seed, False, out / f"{recipe}-untrained-{seed}")
        columns = {
            "trained": [execute(run, out / "times.jsonl") for run in trained],
            "untrained": [execute(untrained, out / "times.jsonl")],
        }
        if recipe == "bccd_multitask":
            columns["box size alone"] = [box_size_figures(read["train"], read["test"])]
        parts.append(table(f"recipe:{recipe}", columns))
    text = "\n".join(parts)
    (out / "bccd.md").write_text(text, "utf-8")
    print(f"\n{text}\nwritten to {out / 'bccd.md'}")


if __name__ == "__main__":
    main()
