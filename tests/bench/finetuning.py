"""Fine-tune to BCCD detection with every transfer strategy, and print the tables of docs/finetuning.md.

`pyramidion fit` trains a backbone on synthetic images of another kind (`pyramidion data synth`: shapes on noisy
backgrounds, with detection, classification and embedding heads). Detection of blood cells then starts from that
backbone, with a random neck and head, on a quarter and on all of BCCD's training images. All strategies have the same
number of optimizer steps and the same learning rate. `scratch` is `full` from a random backbone.

Finished runs are reused, and a stopped run is resumed.
"""

import argparse
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.data.synth.dataset import write_synthetic
from tests.bench.runs import (
    BENCH_DIR,
    Figures,
    Outcome,
    Run,
    execute,
    execute_all,
    find_bccd,
    hardware,
    report,
    turned_table,
)

STRATEGIES = ("scratch", "full", "freeze", "discriminative", "gradual", "lp-ft")
BATCH_SIZE = 4
EVERY = {"25 %": 4, "100 %": 1}
"""For each share of the training images the step n: every n-th image in the order of their names is kept."""
PRETRAINING_IMAGES = 1500


def pretraining(data: Path, seed: int, epochs: int) -> Run:
    """Return the training of the backbone on synthetic images."""
    return Run(
        f"pretraining-{seed}",
        (
            "--config=recipe:demo",
            "--model.backbone.name=resnet14_thin",
            "--model.backbone.weights=none",
            f"--data.root={data / 'shapes'}",
            f"--seed_everything={seed}",
            f"--trainer.max_epochs={epochs}",
            f"--trainer.check_val_every_n_epoch={epochs}",
            "--tracking=null",
        ),
    )


def finetuning(data: Path, strategy: str, share: str, seed: int, steps: int) -> Run:
    """Return one fine-tuning of `steps` optimizer steps on a share of the images, which is in a folder of `data`."""
    num_images = count_images(data / folder_of(share))
    epochs = steps // -(-num_images // BATCH_SIZE)
    source = "" if strategy == "scratch" else "--model.init_from=pretraining-0"
    transfer = "full" if strategy == "scratch" else strategy
    name = f"{strategy}-{share.split()[0]}-{seed}"
    options = (
        "--config=recipe:bccd",
        f"--data.root={data / folder_of(share)}",
        f"--seed_everything={seed}",
        f"--trainer.max_epochs={epochs}",
        f"--trainer.check_val_every_n_epoch={epochs}",
        f"--model.schedule.warmup_steps={steps // 10}",
        f"--model.transfer={transfer}",
        "--tracking=null",
    )
    return Run(name, (*options, source) if source else options)


def folder_of(share: str) -> str:
    """Return the name of the data folder of a share of the training images."""
    return f"bccd-{share.split()[0]}"


def write_share(bccd: Path, folder: Path, every: int) -> None:
    """Write BCCD with every n-th training image and complete val and test splits."""
    shutil.copytree(bccd / "JPEGImages", folder / "JPEGImages")
    (folder / "annotations").mkdir()
    for split in ("train", "val", "test"):
        document = json.loads((bccd / f"annotations/instances_{split}.json").read_text("utf-8"))
        kept = thinned(document, every if split == "train" else 1)
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(kept), "utf-8")


def count_images(folder: Path) -> int:
    """Return the number of training images."""
    return len(json.loads((folder / "annotations/instances_train.json").read_text("utf-8"))["images"])


def thinned(document: dict[str, Any], every: int) -> dict[str, Any]:
    """Return a COCO document with every n-th image, in the order of their names."""
    images = sorted(document["images"], key=lambda image: str(image["file_name"]))[::every]
    kept = {image["id"] for image in images}
    return {**document, "images": images, "annotations": [a for a in document["annotations"] if a["image_id"] in kept]}


def figures(outcome: Outcome) -> Figures:
    """Return the figures in a row of the tables."""
    coco = outcome.result["tasks"]["cells"]["coco"]
    return {
        "test AP": coco["AP"],
        "test AP50": coco["AP50"],
        "training (s)": outcome.result["timing"]["train_s"],
        "whole run (s)": outcome.wall_s,
        "peak memory (MiB)": outcome.peak_mib,
    }


def main() -> None:
    """Run the missing trainings, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=312, help="optimizer steps of each fine-tuning")
    parser.add_argument("--pretraining-epochs", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=2, help="number of concurrent trainings, each with one thread")
    parser.add_argument("--out", type=Path, default=BENCH_DIR / "finetuning")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    data = out / "data"
    once(data / "shapes", lambda folder: write_synthetic(folder, seed=7, num_train=PRETRAINING_IMAGES, num_test=0))
    bccd = find_bccd()
    for share, every in EVERY.items():
        once(data / folder_of(share), partial(write_share, bccd, every=every))
    os.environ |= {"OMP_NUM_THREADS": "1", "PYRAMIDION_WEIGHTS_ROOTS": str(out)}
    source = execute(pretraining(data, 0, options.pretraining_epochs), out)
    parts = [
        f"{hardware()}; {options.jobs} trainings at a time with one thread each; mean (lowest to highest) of the seeds "
        f"{', '.join(map(str, options.seeds))}; {options.steps} optimizer steps of {BATCH_SIZE} images each.\n",
        f"The backbone was trained for {source.wall_s:.0f} s on {PRETRAINING_IMAGES} synthetic images (val AP50 of "
        f"shapes {source.result['val']['tasks']['shapes']['coco']['AP50']:.2f}).\n",
    ]
    for share in EVERY:
        runs = [finetuning(data, s, share, seed, options.steps) for s in STRATEGIES for seed in options.seeds]
        outcomes = iter(execute_all(runs, out, options.jobs))
        rows = {strategy: [figures(next(outcomes)) for _ in options.seeds] for strategy in STRATEGIES}
        parts.append(turned_table(f"{share} of the training images ({count_images(data / folder_of(share))})", rows))
    report(parts, out / "finetuning.md")


def once(folder: Path, write: Callable[[Path], object]) -> None:
    """Write a folder atomically unless it exists."""
    if not folder.exists():
        unfinished = folder.with_suffix(".writing")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write(unfinished)
        unfinished.rename(folder)


if __name__ == "__main__":
    main()
