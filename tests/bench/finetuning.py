"""Fine-tune from ImageNet weights with every transfer strategy, and print the tables of docs/finetuning.md.

Detection and white-cell subtypes of BCCD, from `tf_efficientnet_lite0` with the weights of the installed package, with
a random neck and head; `scratch` is `full` from a random backbone. All strategies have the same number of optimizer
steps. The learning rate of each is chosen on val, with seed 0 and all images, and its other runs use it.

Every finished run is a row of tests/bench/finetuning.jsonl, beside the code that wrote it. A run that has a row is
skipped, and a stopped run is resumed.
"""

import argparse
import json
import multiprocessing
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.finetuning_tables import render
from tests.bench.finetuning_trials import TASKS, Trial, stages, training
from tests.bench.finished_runs import Row, append_row, discard_rows, find_row, read_rows
from tests.bench.runs import BENCH_DIR, Outcome, Run, execute_all, find_bccd, hardware, report

ROWS = Path(__file__).with_suffix(".jsonl")
QUARTER = 4
"""With a share of 25 %, every fourth image is kept, in the order of their names."""
MIN_TOP1_IMAGES = 3


def row(trial: Trial, outcome: Outcome) -> Row:
    """Return the row of a finished run."""
    result = outcome.result
    return {
        **trial.identity,
        "val": figures(trial.task, result["val"]["tasks"]),
        "test": figures(trial.task, result["tasks"]),
        "cpu_s": round(outcome.cpu_s, 1),
        "wall_s": round(outcome.wall_s, 1),
        "peak_mib": round(outcome.peak_mib),
        "machine": hardware(),
        "versions": {name: result["versions"][name] for name in ("pyramidion", "torch", "timm")},
        "date": datetime.now(UTC).date().isoformat(),
    }


def figures(task: str, scores: dict[str, Any]) -> dict[str, float]:
    """Return the figures of one split; those of classes count only classes with at least MIN_TOP1_IMAGES."""
    if task == "detection":
        coco = scores["cells"]["coco"]
        return {name: round(coco[name], 4) for name in ("AP", "AP50")}
    classes = [found for found in scores["subtype"]["per_class"] if found["top1_support"] >= MIN_TOP1_IMAGES]
    supports = [found["top1_support"] for found in classes]
    right = [found["top1_recall"] * found["top1_support"] for found in classes]
    return {
        "mAP": round(sum(found["ap"] for found in classes) / len(classes), 4),
        "macro recall": round(sum(found["top1_recall"] for found in classes) / len(classes), 4),
        "accuracy": round(sum(right) / sum(supports), 4),
    }


def write_share(bccd: Path, folder: Path, every: int) -> None:
    """Write BCCD with every n-th training image and complete val and test splits."""
    shutil.copytree(bccd / "JPEGImages", folder / "JPEGImages")
    (folder / "annotations").mkdir()
    for split in ("train", "val", "test"):
        document = json.loads((bccd / f"annotations/instances_{split}.json").read_text("utf-8"))
        kept = thinned(document, every if split == "train" else 1)
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(kept), "utf-8")


def thinned(document: dict[str, Any], every: int) -> dict[str, Any]:
    """Return a COCO document with every n-th image, in the order of their names."""
    images = sorted(document["images"], key=lambda image: str(image["file_name"]))[::every]
    kept = {image["id"] for image in images}
    return {**document, "images": images, "annotations": [a for a in document["annotations"] if a["image_id"] in kept]}


def train_missing(tasks: list[str], out: Path, jobs: int, path: Path = ROWS) -> None:
    """Execute the runs that have no row, and write their rows."""
    bccd, quarter = find_bccd(), out / "bccd-25"
    if not quarter.exists():
        unfinished = quarter.with_suffix(".writing")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write_share(bccd, unfinished, QUARTER)
        unfinished.rename(quarter)
    trials: dict[Run, Trial] = {}

    def finished(run: Run, outcome: Outcome) -> None:
        append_row(path, row(trials[run], outcome))

    for stage in stages(tasks):
        rows = read_rows(path)
        missing = [trial for trial in stage(rows) if find_row(rows, trial.identity) is None]
        runs = [training(trial, quarter if trial.share == "25 %" else bccd) for trial in missing]
        trials |= dict(zip(runs, missing, strict=True))
        execute_all(runs, out, jobs, finished)


def main() -> None:
    """Run the missing trainings, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--jobs", type=int, default=2, help="number of concurrent trainings, each with one thread")
    parser.add_argument("--table", action="store_true", help="train nothing, and print the tables of the rows")
    parser.add_argument("--again", action="store_true", help="discard the rows and runs of the tasks, and start anew")
    parser.add_argument("--out", type=Path, default=BENCH_DIR / "finetuning")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    if options.again:
        discard_rows(ROWS, lambda row: row["task"] in options.tasks)
        discard_rows(out / "times.jsonl", lambda row: row["run"].split("-")[0] in options.tasks)
        for folder in (found for task in options.tasks for found in out.glob(f"{task}-*")):
            shutil.rmtree(folder, ignore_errors=True)
    if not options.table:
        os.environ["OMP_NUM_THREADS"] = "1"
        multiprocessing.set_forkserver_preload(["pipelines.run.fit"])
        train_missing(options.tasks, out, options.jobs)
    report(render(read_rows(ROWS)), out / "finetuning.md")


if __name__ == "__main__":
    main()
