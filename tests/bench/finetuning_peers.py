"""Compare `recipe:finetune` with torchvision's reference fine-tuning and Ultralytics' YOLO11n, at equal wall time.

The data is BCCD. Each side gets the same wall time, from the start of its process until its detections on the test
images are written: imports, reading of the data, training, its own validations and the evaluation of test all count.
Only the preparation is not counted: the virtual environment of Ultralytics, its data set in the YOLO format, and one
evaluation of its untrained network, which shows how much time its evaluations need after the training. All sides have
the same cores, the same number of threads, and the same evaluation of their detections (pycocotools).

On a machine with other load, `--processor-time` gives each side the same processor time instead: its clocks show it
(processor_clock.py), and `--jobs` of them run at a time. With one thread each, that is the wall time of an idle core.

Finished runs are rows of finetuning_peers.jsonl, which are not repeated. Ultralytics has the license AGPL-3.0; it is
installed into an environment of its own and called as a command.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipelines.base.clock import parse_duration
from tests.bench import ultralytics_peer
from tests.bench.finished_runs import Row, append_row, find_row, read_rows
from tests.bench.runs import BENCH_DIR, Figures, Process, find_bccd, hardware, report, run_process, turned_table

CLOCKS = Path(__file__).with_name("processor_clock.py")
ROWS = Path(__file__).with_suffix(".jsonl")
OWN_COMMAND = "pipelines.cli"
"""The module that `pyramidion fit` becomes: a process that replaces itself would lose the clocks."""
IMAGE_SIZE = 240, 320
"""Height and width that recipe:finetune chooses for BCCD."""


@dataclass(frozen=True)
class Setup:
    """What all sides have in common.

    Attributes:
        bccd: folder of the data.
        out: folder of all runs.
        budget: time of each side, such as "4m".
        threads: of each side.
        clock: "wall" or "processor".
        machine: processor and versions.
    """

    bccd: Path
    out: Path
    budget: str
    threads: int
    clock: str
    machine: str

    @property
    def budget_s(self) -> float:
        return parse_duration(self.budget)

    @property
    def python(self) -> tuple[str, ...]:
        """The start of a command that runs a module."""
        return (*self.clocked(sys.executable), "-m")

    def clocked(self, *command: str) -> tuple[str, ...]:
        """Return the start of a command, an interpreter with or without a script, with the clocks of this setup."""
        interpreter, *script = command
        return (interpreter, *([str(CLOCKS)] if self.clock == "processor" else []), *script)

    @property
    def test(self) -> Path:
        return self.bccd / "annotations/instances_test.json"


@dataclass(frozen=True)
class Finished:
    """A run of one side: COCO results on test, the counts of its training, and what its commands have used."""

    detections: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    processes: Sequence[Process]


def run_own(setup: Setup, folder: Path, seed: int) -> Finished:
    """Run `recipe:finetune`."""
    command = [*setup.python, OWN_COMMAND, "fit", "--config=recipe:finetune", f"--data.root={setup.bccd}"]
    options = [
        f"--budget={setup.budget}",
        f"--seed_everything={seed}",
        "--tracking=null",
        f"--run-dir={folder / 'run'}",
    ]
    log = folder / "log"
    process = ultralytics_peer.require(run_process([*command, *options], log), log)
    (predictions,) = (folder / "run/predictions").glob("*.coco.json")
    events = (folder / "run/events.jsonl").read_text("utf-8").splitlines()
    document = yaml.safe_load((folder / "run/job.yaml").read_text("utf-8"))
    return Finished(json.loads(predictions.read_text("utf-8")), own_counts(events, document), [process])


def own_counts(events: Sequence[str], document: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of batches and images; the last batch of an epoch counts as a whole one.

    Args:
        events: lines of `events.jsonl`.
        document: the job, with one source.
    """
    (source,) = document["data"]["sources"].values()
    batches = max(json.loads(line).get("step", 0) for line in events)
    return {"batches": batches, "images": batches * source["batch_size"]}


def run_torchvision(setup: Setup, folder: Path, seed: int, *, rate_factor: float = 1.0) -> Finished:
    """Run torchvision's reference fine-tuning."""
    command = [*setup.python, "tests.bench.torchvision_peer", f"--data={setup.bccd}", f"--out={folder}"]
    options = [f"--rate-factor={rate_factor}", f"--seed={seed}", "--size", *map(str, IMAGE_SIZE)]
    log = folder / "log"
    deadline = f"--deadline={time.time() + setup.budget_s}"
    process = ultralytics_peer.require(run_process([*command, *options, deadline], log), log)
    read = (json.loads((folder / name).read_text("utf-8")) for name in ("detections.json", "counts.json"))
    return Finished(next(read), next(read), [process])


def run_ultralytics(setup: Setup, folder: Path, seed: int) -> Finished:
    """Run YOLO11n from random weights, with its own settings except for the time and the size of the images."""
    data = setup.out / "yolo_data"
    environment = setup.out / "ultralytics"
    command = setup.clocked(str(environment / "bin/python"), str(environment / "bin/yolo"))
    yolo = ultralytics_peer.Yolo(command, environment, data / "data.yaml", max(IMAGE_SIZE), folder / "log")
    evaluation_s = json.loads((setup.out / "evaluation.json").read_text("utf-8"))
    limit_s = setup.budget_s - ultralytics_peer.NUM_EVALUATIONS * evaluation_s
    if limit_s <= 0:
        sys.exit(
            f"bench: {setup.budget} is too short for Ultralytics, whose evaluations take {evaluation_s:.0f} s each"
        )
    training = yolo.train(folder, seed, limit_s)
    counts = ultralytics_peer.counts(yolo.log.read_text("utf-8"), len(list((data / "images/train").iterdir())))
    test = yolo.evaluate(folder, str(folder / "train/weights/best.pt"), "test")
    predictions = ultralytics_peer.read_predictions(folder / "test/predictions.json")
    document = json.loads(setup.test.read_text("utf-8"))
    return Finished(ultralytics_peer.to_coco(document, predictions), counts, [training, test])


SIDES: dict[str, Callable[[Setup, Path, int], Finished]] = {
    "recipe:finetune": run_own,
    "torchvision FCOS": run_torchvision,
    "torchvision FCOS, 4 x rate": partial(run_torchvision, rate_factor=4.0),
    "Ultralytics YOLO11n from scratch": run_ultralytics,
}


def prepare_ultralytics(setup: Setup, torch_from: Path | None) -> None:
    """Install Ultralytics, convert the data, and measure the processor time of an evaluation, unless it was done."""
    environment, data, measured = (setup.out / name for name in ("ultralytics", "yolo_data", "evaluation.json"))
    log = setup.out / "preparation.log"
    ultralytics_peer.install(environment, log, torch_from)
    if not measured.exists():
        shutil.rmtree(data, ignore_errors=True)
        command = [sys.executable, "-m", "service.cli", "data", "convert", "--config=recipe:bccd", "--to=yolo"]
        ultralytics_peer.require(run_process([*command, f"--out={data}", f"--data.root={setup.bccd}"], log), log)
        yolo = ultralytics_peer.Yolo(
            [str(environment / "bin/yolo")], environment, data / "data.yaml", max(IMAGE_SIZE), log
        )
        process = yolo.evaluate(setup.out / "untrained", ultralytics_peer.MODEL, "val")
        measured.write_text(json.dumps(process.cpu_s), "utf-8")


def scores(annotations: Path, detections: Sequence[Mapping[str, Any]]) -> Figures:
    """Return AP and AP50 of COCO results by pycocotools; 0 without any detection."""
    if not detections:
        return {"AP": 0.0, "AP50": 0.0}
    truth = COCO(str(annotations))
    evaluation = COCOeval(truth, truth.loadRes(list(map(dict, detections))), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return {"AP": float(evaluation.stats[0]), "AP50": float(evaluation.stats[1])}


def identity(setup: Setup, side: str, seed: int) -> Row:
    """Return what identifies a run; a row with the same values is not repeated."""
    common = {"budget": setup.budget, "clock": setup.clock, "threads": setup.threads, "machine": setup.machine}
    return {"side": side, "seed": seed, **common}


def row_of(wanted: Row, setup: Setup, finished: Finished) -> Row:
    """Return the row of a finished run."""
    spent = finished.processes
    return wanted | {
        "date": datetime.now(UTC).date().isoformat(),
        **{name: round(value, 4) for name, value in scores(setup.test, finished.detections).items()},
        **finished.counts,
        "wall_s": round(sum(process.wall_s for process in spent), 1),
        "cpu_s": round(sum(process.cpu_s for process in spent), 1),
        "peak_mib": round(max(process.peak_mib for process in spent)),
    }


def execute(setup: Setup, rows: Path, wanted: Row) -> Row:
    """Return the row of a run, which is appended to `rows` after it has finished."""
    if found := find_row(read_rows(rows), wanted):
        return found
    folder = setup.out / "-".join([*wanted["side"].replace(":", " ").replace(",", "").split(), str(wanted["seed"])])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"== {wanted['side']}, seed {wanted['seed']}", flush=True)
    row = row_of(wanted, setup, SIDES[wanted["side"]](setup, folder, wanted["seed"]))
    append_row(rows, row)
    return row


def figures(row: Row) -> Figures:
    """Return the figures in a row of the table."""
    names = {"batches": "batches", "images": "images", "wall_s": "wall time (s)", "cpu_s": "processor time (s)"}
    return {name: row[name] for name in ("AP", "AP50")} | {shown: float(row[name]) for name, shown in names.items()}


def use_cores(setup: Setup) -> None:
    """Give this process and its children the same number of threads and, if they share the wall time, of cores."""
    os.environ["OMP_NUM_THREADS"] = str(setup.threads)
    if setup.clock == "wall":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: setup.threads])


def main() -> None:
    """Run what is missing, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="8m", help="time of each side (default 8m)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--threads", type=int, default=1, help="threads of each side (default 1)")
    parser.add_argument("--processor-time", action="store_true", help="for a machine with other load")
    parser.add_argument("--jobs", type=int, default=1, help="sides at a time, with --processor-time (default 1)")
    torch_help = "site-packages whose torch Ultralytics takes, too"
    parser.add_argument("--torch-from", type=Path, metavar="DIR", help=torch_help)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--out", type=Path, default=BENCH_DIR / "peers")
    options = parser.parse_args()
    if options.jobs > 1 and not options.processor_time:
        parser.error("--jobs: sides that run at the same time need --processor-time, which does not count the others")
    clock = "processor" if options.processor_time else "wall"
    setup = Setup(find_bccd(), options.out.resolve(), options.budget, options.threads, clock, hardware())
    setup.out.mkdir(parents=True, exist_ok=True)
    use_cores(setup)
    if any(SIDES[side] is run_ultralytics for side in options.sides):
        prepare_ultralytics(setup, options.torch_from)
    wanted = [identity(setup, side, seed) for seed in options.seeds for side in options.sides]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = list(pool.map(partial(execute, setup, options.rows), wanted))
    table = {side: [figures(row) for row in found if row["side"] == side] for side in options.sides}
    title = f"{options.budget} of {clock} time each, {options.threads} threads"
    report(
        [f"{setup.machine}; seeds {', '.join(map(str, options.seeds))}.\n", turned_table(title, table)],
        setup.out / "peers.md",
    )


if __name__ == "__main__":
    main()
