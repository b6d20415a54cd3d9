"""Compare training on a GPU with torchvision's reference models, as Markdown tables, in less than 8 minutes.

The first table has the images per second and the peak memory of training steps (forward, losses, backward, AdamW, bf16,
channels_last) of torchvision's detectors and this project's, without and with `trainer.compile`. Steps on one batch in
the device's memory alternate (A-B-A-B) in one process; figures are medians of rounds. RetinaNet and FCOS are the same
networks on both sides. torchvision's Faster R-CNN has the levels P2..P6, this project's P3..P7.

The second table has the share of time that the device waits for data: the loader with its workers reads generated JPEG
files of 640x480 pixels, and the same number of steps on one of its batches shows the time without waiting.

The script runs on the CPU too, to try it: `--device cpu --size 64 --batch 2 --steps 1 --rounds 1`.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import detection

from heads.base import BoxTarget
from pipelines.base.records import Category
from pipelines.data.dataset.index import build_index
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import Batch, ImageInfo
from pipelines.model import build_model
from pipelines.optim.param_groups import create_optimizer
from pipelines.run_folder.layout import CACHE_VARIABLE
from pipelines.spec.job import JobSpec
from pipelines.spec.load import load_job
from pipelines.training.balancing import create_balance, global_losses
from pipelines.training.compilation import compile_layers
from tests.bench.loader import write_photos
from tests.bench.runs import hardware, markdown
from tests.bench.speed import Unresized

NUM_CLASSES, NUM_BOXES, LEARNING_RATE, WARM_STEPS = 80, 8, 1e-5, 2
MIB = 2**20
PEERS: dict[str, Callable[..., nn.Module]] = {
    "retinanet": detection.retinanet_resnet50_fpn,
    "fcos": detection.fcos_resnet50_fpn,
    "faster_rcnn": detection.fasterrcnn_resnet50_fpn,
}


def random_batch(count: int, side: int, device: torch.device) -> Batch:
    """Return images with 8 boxes each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    targets = []
    for _ in range(count):
        corners = torch.rand(NUM_BOXES, 2, generator=generator) * side / 2
        sides = 8 + torch.rand(NUM_BOXES, 2, generator=generator) * (side / 2 - 8)
        labels = torch.randint(0, NUM_CLASSES, (NUM_BOXES,), generator=generator)
        boxes = torch.cat([corners, corners + sides], dim=1)
        targets.append(BoxTarget(boxes, labels, torch.zeros(NUM_BOXES, dtype=torch.bool), torch.full((NUM_BOXES,), -1)))
    size_hw = (side, side)
    infos = [ImageInfo(b, "", "", original_hw=size_hw, size_hw=size_hw, scale_xy=(1.0, 1.0)) for b in range(count)]
    return Batch(images, infos, {"cells": list(targets)}).to(device)


def autocast(device: torch.device) -> torch.autocast:
    """Return bf16 on a GPU; most CPUs compute faster in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


class PeerTraining:
    """torchvision's detector with all parameters trainable, as its reference trains it."""

    def __init__(self, name: str, device: torch.device) -> None:
        torch.manual_seed(0)
        offset = name == "faster_rcnn"  # it counts the background as a class
        model: Any = PEERS[name](weights=None, weights_backbone=None, num_classes=NUM_CLASSES + offset)
        transform = model.transform
        model.transform = Unresized(transform.min_size, transform.max_size, transform.image_mean, transform.image_std)
        self.offset = int(offset)
        self.device = device
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, fused=True)

    def step(self, batch: Batch) -> None:
        """Run one training step."""
        self.optimizer.zero_grad()
        targets = [
            {"boxes": target.boxes_xyxy, "labels": target.labels + self.offset}
            for target in batch.targets["cells"]
            if isinstance(target, BoxTarget)
        ]
        with autocast(self.device):
            losses = self.model(list(batch.images / 255), targets)
            total = torch.stack(list(losses.values())).sum()
        total.backward()
        self.optimizer.step()


class OwnTraining:
    """This project's detector."""

    def __init__(self, job: JobSpec, num_classes: int, device: torch.device, backend: str | None = None) -> None:
        torch.manual_seed(0)
        categories = {"cells": [Category(k + 1, str(k)) for k in range(num_classes)]}
        self.device = device
        self.model = build_model(job.model, categories).to(device).train()
        self.optimizer = create_optimizer(self.model, job.model, fused=True)
        self.balance = create_balance(job.model)
        if backend is not None:
            compile_layers(self.model, backend)

    def step(self, batch: Batch) -> None:
        """Run one training step."""
        self.optimizer.zero_grad()
        with autocast(self.device):
            losses = global_losses(self.model.loss(batch.images, batch.targets, batch.image_sizes_hw))
            total = torch.stack(list(self.balance(losses).values())).sum()
        # The training module looks at the losses before the backward pass, too.
        if not bool(total.isfinite()):
            sys.exit(f"bench: the loss is {total.item()}; lower LEARNING_RATE")
        total.backward()
        self.optimizer.step()


class Measured:
    """One side of the comparison: its rounds, the memory of its steps, and the time of its first step."""

    def __init__(self, create: Callable[[], PeerTraining | OwnTraining], batch: Batch) -> None:
        self.batch = batch
        self.is_gpu = batch.images.is_cuda
        before = self._allocated()
        self.training = create()
        started = time.perf_counter()
        self.run(1)
        self.first_s = time.perf_counter() - started
        self.run(WARM_STEPS)
        self.own_bytes = self._allocated() - before
        self.peak_bytes = 0
        self.images_per_s: list[float] = []

    def run(self, steps: int) -> float:
        """Return the seconds of some steps."""
        return timed(lambda: [self.training.step(self.batch) for _ in range(steps)], is_gpu=self.is_gpu)

    def measure(self, steps: int) -> None:
        """Add one round."""
        others = self._allocated() - self.own_bytes
        if self.is_gpu:
            torch.cuda.reset_peak_memory_stats()
        self.images_per_s.append(steps * len(self.batch) / self.run(steps))
        if self.is_gpu:
            self.peak_bytes = max(self.peak_bytes, torch.cuda.max_memory_allocated() - others)

    def _allocated(self) -> int:
        return torch.cuda.memory_allocated() if self.is_gpu else 0

    def cells(self) -> tuple[float, list[str]]:
        """Return the median rate, and what the table shows: rate and peak memory."""
        rate = statistics.median(self.images_per_s)
        return rate, [f"{rate:.1f}", f"{self.peak_bytes / MIB:.0f}" if self.is_gpu else ""]


def timed(work: Callable[[], object], *, is_gpu: bool) -> float:
    """Return the seconds until the work is done, also on the device."""
    if is_gpu:
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if is_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def own_job(head: str, options: argparse.Namespace) -> JobSpec:
    """Return the document of a detector with the layers of torchvision's."""
    task = {"fcos": "norm: gn", "retinanet": "norm: none"}.get(head, "")
    overrides = {
        "model.backbone.name": options.backbone,
        "model.neck": "{channels: 256}",
        "model.tasks": f"{{cells: {{head: {head}, {task}}}}}",
        "model.optimizer.lr": str(LEARNING_RATE),
        "data.image_size": str(options.size),
        "data.augment": "default",
        "data.cache": "none",
        "data.num_workers": str(options.workers),
        "data.sources.bccd.batch_size": str(options.batch),
    }
    return load_job(["recipe:bccd"], list(overrides.items()))


def compare(head: str, options: argparse.Namespace) -> list[str]:
    """Return the row of a head."""
    device = torch.device(options.device)
    batch = random_batch(options.batch, options.size, device)
    job = own_job(head, options)
    sides = [
        Measured(lambda: PeerTraining(head, device), batch),
        Measured(lambda: OwnTraining(job, NUM_CLASSES, device), batch),
    ]
    if options.backend != "none":
        sides.append(Measured(lambda: OwnTraining(job, NUM_CLASSES, device, options.backend), batch))
    for _ in range(options.rounds):
        for side in sides:
            side.measure(options.steps)
    (peer, peer_cells), *own = [side.cells() for side in sides]
    cells = list(peer_cells)
    for rate, of_side in own:
        cells += [*of_side, f"{rate / peer:.2f}"]
    if len(sides) == 3:
        return [*cells, f"{sides[2].first_s:.0f}"]
    return [*cells, "", "", "", ""]


def endless(loader: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the batches of one epoch after the other."""
    while True:
        yield from loader


def waiting(options: argparse.Namespace, root: Path) -> list[str]:
    """Return the rates of the loader alone, of steps alone and of both, and the share of time spent waiting."""
    device = torch.device(options.device)
    job = own_job("retinanet", options)
    index, report = build_index(job, root / "bccd")
    report.raise_errors()
    batches = endless(JobData(job.data, job.model.tasks, index, seed=0).train_dataloader())  # type: ignore[arg-type]
    training = OwnTraining(job, len(index.categories["cells"]), device)
    one = next(batches).to(device)
    is_gpu, steps = device.type == "cuda", options.steps * options.rounds
    timed(lambda: [training.step(one) for _ in range(WARM_STEPS)], is_gpu=is_gpu)
    # The queues of the workers are emptied by reading as many batches as they can hold.
    for _ in range(2 * options.workers):
        next(batches)
    loading_s = timed(lambda: [next(batches) for _ in range(steps)], is_gpu=is_gpu)
    both_s = timed(lambda: [training.step(next(batches).to(device)) for _ in range(steps)], is_gpu=is_gpu)
    steps_s = timed(lambda: [training.step(one) for _ in range(steps)], is_gpu=is_gpu)
    rates = [f"{steps * options.batch / seconds:.1f}" for seconds in (loading_s, steps_s, both_s)]
    return [*rates, f"{max(0.0, 1 - steps_s / both_s):.0%}"]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; exit with a message if the device is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--size", type=int, default=800, help="side of the images in pixels, a multiple of 32")
    parser.add_argument("--batch", type=int, default=16, help="images per step")
    parser.add_argument("--steps", type=int, default=8, help="steps per round")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds")
    parser.add_argument("--heads", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--backbone", default="resnet50", help="of this project's models; torchvision's have ResNet-50")
    parser.add_argument("--backend", default="inductor", help="of torch.compile; none: do not compile")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="data workers")
    parser.add_argument("--minutes", type=float, default=5.5, help="no further row is started after this time")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "bench: torch finds no GPU; use a machine with one, or try the script on the CPU: "
            "--device cpu --size 64 --batch 2 --steps 1 --rounds 1"
        )
    if options.size % 32:
        sys.exit(f"bench: --size: got {options.size}; write a multiple of 32, such as 800")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    options = parse(arguments)
    started = time.monotonic()
    precision = "bf16" if options.device == "cuda" else "float32"
    limits = f"batches of {options.batch} images of {options.size} px, {precision}, channels_last"
    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = str(Path(folder, "cache"))
        # As many files as two epochs of the timed steps need, since the workers start again in each epoch.
        write_photos(Path(folder), 2 + options.batch * max(2, options.steps * options.rounds // 2))
        cells = waiting(options, Path(folder))
    header = [f"loader alone, {options.workers} workers", "steps alone", "both", "time spent waiting"]
    print(markdown(f"Waiting for data, images/s: {limits}", header, {"retinanet": cells}), flush=True)
    rows = {}
    for head in options.heads:
        if time.monotonic() - started > 60 * options.minutes:
            print(f"bench: {head} is skipped, because {options.minutes:g} minutes have passed", file=sys.stderr)
            continue
        rows[head] = compare(head, options)
        torch.compiler.reset()
        if options.device == "cuda":
            torch.cuda.empty_cache()
    header = ["torchvision", "peak MiB", "ours", "peak MiB", "ratio"]
    header += ["ours, compiled", "peak MiB", "ratio", "first compiled step, s"]
    print(markdown(f"Training steps, images/s: {limits}", header, rows))
    name = torch.cuda.get_device_name() if options.device == "cuda" else "no GPU"
    print(f"{name}; {hardware()}; medians of {options.rounds} rounds of {options.steps} steps")
    print(f"{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
