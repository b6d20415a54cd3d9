"""Compare one model for detection, subtype and embedding with a model for each; print the tables of docs/finetuning.md.

Quality and training time: recipe:bccd_multitask, and the same document with one task, with the same number of optimizer
steps; from random initialization, or from weights of ImageNet (`--start imagenet`). An embedding of objects needs a
detector to find them in new images: the model for the embedding only includes the smallest possible one, frozen and
with loss weight 0.

Inference time: the predictions of the joint model, its parts (backbone, neck, each head with its decoding) timed
separately, and the three single models, alternating, for the trained network and for resnet50.

Finished runs are reused, and a stopped run is resumed.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.spec.load import Document, apply_override, assemble, validate_document, write_yaml
from tests.bench.bccd import figures
from tests.bench.runs import BENCH_DIR, Figures, Outcome, Run, execute_all, find_bccd, hardware, markdown, report, table

RECIPE = "recipe:bccd_multitask"
MODELS = {
    "joint": ("cells", "lookup", "subtype"),
    "cells only": ("cells",),
    "subtype only": ("subtype",),
    "lookup only": ("lookup", "boxes"),
}
BOXES = {"head": "fcos", "levels": ["p5"], "num_convs": 0, "weight": 0.0, "score_threshold": 1.0}
"""The smallest possible detector."""

Changes = Mapping[str, Any]
"""Values of fields of the recipe by dotted names."""

FROM_IMAGENET: Changes = {
    "model.backbone.name": "tf_efficientnet_lite0",
    "model.backbone.weights": "default",
    "model.unfreeze": {0: ["c4", "c5"]},
    "model.layer_decay": 0.7,
    "model.optimizer.lr": 1e-3,
    "model.schedule.warmup_steps": 40,
    "model.tasks.subtype.level": "c5",
    # With these weights, the first gradients of both tasks in c5 are a quarter of that of cells.
    "model.tasks.subtype.weight": 0.03,
    "model.tasks.lookup.weight": 0.004,
    "data.sources.bccd.batch_size": 2,
    "data.image_size": [192, 256],
    "data.augment.scale_jitter": [0.8, 1.25],
}
STARTS: Mapping[str, tuple[int, Changes]] = {"random": (12, {}), "imagenet": (3, FROM_IMAGENET)}
"""Number of epochs of each training, and changes to the recipe."""

LARGE_NETWORK: Changes = {
    "model.backbone.name": "resnet50",
    "model.neck.channels": 256,
    "data.image_size": [480, 640],
}
NUM_BOXES = 20
"""Number of embedded objects per image, which is typical for BCCD."""


def document_of(tasks: tuple[str, ...], changes: Changes) -> Document:
    """Return the recipe with changes, reduced to some of its tasks."""
    document = assemble([RECIPE], [])
    for name, value in changes.items():
        document = apply_override(document, name, value)
    known = document["model"]["tasks"]
    kept = {name: BOXES if name == "boxes" else known[name] for name in tasks}
    layers = []
    for layer in document["data"]["sources"]["bccd"]["labels"]:
        named = [name for name in tasks if name in layer["tasks"]]
        if layer["format"] == "coco" and "boxes" in tasks:
            named.append("boxes")
        if named:
            layers.append({**layer, "tasks": named})
    document = apply_override(document, "model.tasks", kept)
    document = apply_override(document, "data.sources.bccd.labels", layers)
    if "boxes" in tasks:
        document = apply_override(document, "model.lr_scale", {"tasks": {"boxes": 0}})
    return apply_override(document, "model.select", None)


def training(model: str, changes: Changes, seed: int, epochs: int, out: Path) -> Run:
    """Return the training of one of `MODELS`; its document is written to `out`."""
    path = out / f"{model.replace(' ', '_')}.yaml"
    path.write_text(write_yaml(document_of(MODELS[model], changes)), "utf-8")
    options = (
        f"--config={path}",
        f"--seed_everything={seed}",
        f"--trainer.max_epochs={epochs}",
        f"--trainer.check_val_every_n_epoch={epochs}",
        "--tracking=null",
    )
    return Run(f"{path.stem}-{seed}", options)


def shown(outcome: Outcome) -> Figures:
    """Return the figures of a training, without those of the stand-in detector."""
    result: dict[str, Any] = outcome.result
    if "cells" not in result["tasks"]:
        nothing = {"coco": {"AP": 0.0, "AP50": 0.0}}
        found = figures({**result, "tasks": {**result["tasks"], "cells": nothing}})
        found = {name: value for name, value in found.items() if not name.startswith("AP")}
    else:
        found = figures(result)
    return {**found, "training (s)": result["timing"]["train_s"], "peak memory (MiB)": outcome.peak_mib}


def inference_times(changes: Changes, rounds: int) -> dict[str, float]:
    """Return milliseconds per image of the joint model, its parts and the single models, as medians over rounds."""
    import torch

    from pipelines.base.records import Category
    from pipelines.model import MultiTaskModel, build_model

    def build(tasks: tuple[str, ...]) -> MultiTaskModel:
        spec = validate_document(document_of(tasks, changes)).model
        return build_model(spec, {task: [Category(k, f"{k}") for k in range(3)] for task in spec.tasks}).eval()

    height, width = document_of(MODELS["joint"], changes)["data"]["image_size"]
    images = torch.randint(0, 256, (1, 3, -(-height // 32) * 32, width), dtype=torch.uint8)
    corners = torch.rand(NUM_BOXES, 2) * torch.tensor([width - 40.0, height - 40.0])
    boxes = [torch.cat([corners, corners + 40], dim=1)]
    sizes = [(height, width)]
    models = {name: build(tasks) for name, tasks in MODELS.items()}
    joint = models["joint"]
    with torch.no_grad():
        features = joint.features(images)
        levels = {name: features[name] for name in ("c3", "c4", "c5")}

    def backbone() -> object:
        normalized = (images.float() / 255 - joint.mean) / joint.std
        return joint.backbone(normalized.contiguous(memory_format=joint.memory_format))

    def head(task: str) -> Callable[[], object]:
        module: Any = joint.heads[task]
        return lambda: module.decode(module(features), sizes, boxes if module.needs_boxes else None)

    def whole(model: MultiTaskModel) -> Callable[[], object]:
        tasks = [task for task in model.heads if task != "boxes"]
        return lambda: model.predict(images, sizes, {"lookup": boxes}, tasks)

    steps: dict[str, Callable[[], object]] = {name: whole(model) for name, model in models.items()}
    steps |= {"backbone": backbone, "neck": lambda: joint.neck(levels)}
    steps |= {f"head {task}": head(task) for task in joint.heads}
    return _alternating(steps, rounds)


def _alternating(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    import torch

    spent: dict[str, list[float]] = {name: [] for name in steps}
    with torch.no_grad():
        for _ in range(rounds):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                spent[name].append(1e3 * (time.perf_counter() - started))
    # In the first round torch selects its kernels.
    return {name: statistics.median(times[1:]) for name, times in spent.items()}


def inference_table(title: str, times: Mapping[str, float]) -> str:
    """Return a Markdown table of milliseconds with sums and ratios."""
    parts = sum(ms for name, ms in times.items() if name.startswith(("backbone", "neck", "head ")))
    singles = sum(ms for name, ms in times.items() if name.endswith(" only"))
    rows = {name: [f"{ms:.1f}"] for name, ms in times.items()}
    rows |= {
        "sum of the parts": [f"{parts:.1f}"],
        "joint / sum of the parts": [f"{times['joint'] / parts:.2f}"],
        "sum of the single models": [f"{singles:.1f}"],
        "joint / sum of the single models": [f"{times['joint'] / singles:.2f}"],
    }
    return markdown(f"Inference: {title}", ["ms per image"], rows)


def main() -> None:
    """Run the missing trainings, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", choices=STARTS, default="random", help="initial weights of the backbone")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="epochs per training; default: 12, or 3 with --start imagenet")
    parser.add_argument("--rounds", type=int, default=30, help="number of rounds of inference times")
    parser.add_argument("--jobs", type=int, default=2, help="number of concurrent trainings, each with one thread")
    parser.add_argument("--out", type=Path, help="default: a folder below runs/bench")
    options = parser.parse_args()
    epochs, changes = STARTS[options.start]
    epochs = options.epochs or epochs
    out: Path = (
        options.out or BENCH_DIR / ("joint" if options.start == "random" else f"joint_{options.start}")
    ).resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.environ["PYRAMIDION_DATA_ROOTS"] = str(find_bccd().parent)
    parts = [f"{hardware()}; float32, one image at a time.\n"]
    height, width = document_of(MODELS["joint"], changes)["data"]["image_size"]
    networks = {
        f"{RECIPE}, start {options.start}, {height}x{width}": changes,
        "resnet50, neck of 256 channels, 480x640": LARGE_NETWORK,
    }
    parts += [inference_table(title, inference_times(of, options.rounds)) for title, of in networks.items()]
    os.environ["OMP_NUM_THREADS"] = "1"
    runs = [training(model, changes, seed, epochs, out) for model in MODELS for seed in options.seeds]
    outcomes = iter(execute_all(runs, out, options.jobs))
    columns = {model: [shown(next(outcomes)) for _ in options.seeds] for model in MODELS}
    parts.append(
        f"{options.jobs} trainings at a time with one thread each; mean (lowest to highest) of the seeds "
        f"{', '.join(map(str, options.seeds))}; {epochs} epochs.\n"
    )
    parts.append(table("Quality and training time", columns))
    report(parts, out / "joint.md")


if __name__ == "__main__":
    main()
