"""Compare training steps and predictions with torchvision's, at equal settings, as Markdown tables.

All sides run in one process and on one thread, and alternate. A figure is the median of the CPU time (user and system)
of the process, which other load affects less than wall time. Both sides have the same network (ResNet-50,
a pyramid p3..p7 of 256 channels, the same towers, anchors or locations), number of classes, random weights, trainable
BatchNorm in every layer, images of their final size, targets, and optimizer. torchvision gets images as floats, this
project as bytes, which it converts.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from heads.base import BoxTarget
from pipelines.base.records import Category
from pipelines.data.loading.sample import ImageInfo, Sample
from pipelines.inference.predictor import Predictor
from pipelines.model import MultiTaskModel, build_model
from pipelines.optim.param_groups import create_optimizer
from pipelines.spec.job import JobSpec
from pipelines.spec.load import load_job
from pipelines.training.balancing import create_balance, global_losses
from tests.bench.runs import hardware, markdown
from tests.bench.step_parts import parts_table

NUM_CLASSES, NUM_BOXES, LEARNING_RATE = 80, 8, 1e-5
NUM_IMAGES, TRAINED_PX, PREDICTED_PX = 2, 320, 512
BACKBONE = "resnet50"
PEERS = {"retinanet": detection.retinanet_resnet50_fpn, "fcos": detection.fcos_resnet50_fpn}

Action = Callable[[], object]


@dataclass(frozen=True)
class Levers:
    """Settings that both sides have."""

    is_bf16: bool = False
    channels_last: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.is_bf16)


LEVERS = {
    "float32": Levers(),
    "float32, channels_last": Levers(channels_last=True),
    "bf16, channels_last": Levers(is_bf16=True, channels_last=True),
}


def targets() -> list[dict[str, Tensor]]:
    """Return boxes (NUM_BOXES, 4) and labels of each image in torchvision's form."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(NUM_IMAGES):
        corners = torch.rand(NUM_BOXES, 2, generator=generator) * TRAINED_PX / 2
        sides = 16 + torch.rand(NUM_BOXES, 2, generator=generator) * (TRAINED_PX / 2 - 16)
        labels = torch.randint(0, NUM_CLASSES, (NUM_BOXES,), generator=generator)
        found.append({"boxes": torch.cat([corners, corners + sides], dim=1), "labels": labels})
    return found


def images(count: int, side: int) -> Tensor:
    """Return random images (B, 3, H, W) uint8."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


class Unresized(GeneralizedRCNNTransform):
    """torchvision's preparation of a batch for images that have their final size already."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, Any]:
        return image, target


def peer_model(name: str, levers: Levers) -> nn.Module:
    """Return torchvision's detector with all parameters trainable."""
    torch.manual_seed(0)
    model: Any = PEERS[name](
        weights=None,
        weights_backbone=None,
        num_classes=NUM_CLASSES,
        score_thresh=0.05,
        nms_thresh=0.5,
        detections_per_img=100,
        topk_candidates=1000,
    )
    transform = model.transform
    model.transform = Unresized(transform.min_size, transform.max_size, transform.image_mean, transform.image_std)
    return model.to(memory_format=levers.memory_format)  # type: ignore[no-any-return]


def peer_step(name: str, levers: Levers) -> Action:
    """Return a training step of torchvision's detector: forward, losses, backward, AdamW."""
    model = peer_model(name, levers).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    batch = list(images(NUM_IMAGES, TRAINED_PX) / 255)
    labeled = targets()

    def step() -> None:
        optimizer.zero_grad()
        with levers.autocast():
            losses = model(batch, labeled)
            total = torch.stack(list(losses.values())).sum()
        require_finite(total)
        total.backward()
        optimizer.step()

    return step


def peer_prediction(name: str, levers: Levers) -> Action:
    """Return a prediction of torchvision's detector for one image."""
    model = peer_model(name, levers).eval()
    batch = list(images(1, PREDICTED_PX) / 255)

    def predict() -> None:
        with torch.inference_mode(), levers.autocast():
            model(batch)

    return predict


def own_job(name: str, levers: Levers) -> JobSpec:
    """Return a document whose network has the same layers as torchvision's."""
    norm = "gn" if name == "fcos" else "none"
    overrides = [
        ("model.backbone.name", BACKBONE),
        ("model.neck", "{channels: 256}"),
        ("model.tasks", f"{{cells: {{head: {name}, norm: {norm}}}}}"),
        ("model.channels_last", str(levers.channels_last).lower()),
        ("model.optimizer.lr", str(LEARNING_RATE)),
        ("data.image_size", str(PREDICTED_PX)),
    ]
    return load_job(["recipe:bccd"], overrides)


def own_model(job: JobSpec) -> tuple[MultiTaskModel, dict[str, list[Category]]]:
    """Return this project's detector and its classes."""
    torch.manual_seed(0)
    categories = {"cells": [Category(k + 1, str(k)) for k in range(NUM_CLASSES)]}
    return build_model(job.model, categories), categories


class OwnTraining:
    """This project's detector with its optimizer and one batch."""

    def __init__(self, name: str, levers: Levers) -> None:
        job = own_job(name, levers)
        self.levers = levers
        self.model, _ = own_model(job)
        self.model.train()
        self.optimizer = create_optimizer(self.model, job.model, fused=True)
        self.balance = create_balance(job.model)
        self.images = images(NUM_IMAGES, TRAINED_PX)
        self.sizes_hw = [(TRAINED_PX, TRAINED_PX)] * NUM_IMAGES
        no_crowd, unknown = torch.zeros(NUM_BOXES, dtype=torch.bool), torch.full((NUM_BOXES,), -1)
        self.targets = {"cells": [BoxTarget(t["boxes"], t["labels"], no_crowd, unknown) for t in targets()]}

    def loss(self) -> Tensor:
        """Return the loss as the training module computes it."""
        with self.levers.autocast():
            losses = global_losses(self.model.loss(self.images, self.targets, self.sizes_hw))
            return torch.stack(list(self.balance(losses).values())).sum()

    def step(self) -> None:
        """Run a training step: forward, losses, backward, AdamW."""
        self.optimizer.zero_grad()
        total = self.loss()
        require_finite(total)
        total.backward()
        self.optimizer.step()


def own_prediction(name: str, levers: Levers) -> Action:
    """Return a prediction of this project's detector for one image, as the service and `predict` make it."""
    job = own_job(name, levers)
    model, categories = own_model(job)
    model.fold_norms()
    precision = "bfloat16" if levers.is_bf16 else "float32"
    predictor = Predictor(model, job, categories, device="cpu", precision=precision)  # type: ignore[arg-type]
    size_hw = (PREDICTED_PX, PREDICTED_PX)
    info = ImageInfo(image_id=0, file_name="", source="", original_hw=size_hw, size_hw=size_hw, scale_xy=(1.0, 1.0))
    sample = Sample(images(1, PREDICTED_PX)[0], info)
    return lambda: predictor.answer([sample])


def require_finite(total: Tensor) -> None:
    """Exit with a message if the loss is not finite, because such numbers can take another time."""
    if not bool(total.isfinite()):
        sys.exit(f"bench: the loss is {total.item()}; lower LEARNING_RATE")


def cpu_ms(action: Action) -> float:
    """Return the CPU time of an action in milliseconds."""
    started = time.process_time()
    action()
    return 1000 * (time.process_time() - started)


def medians(actions: Mapping[str, Action], rounds: int) -> dict[str, float]:
    """Return the median CPU time in ms of each action; they alternate, and the first round does not count."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            spent = cpu_ms(action)
            if number:
                found[name].append(spent)
    return {name: statistics.median(values) for name, values in found.items()}


def compare(title: str, peer: Callable[[Levers], Action], own: Callable[[Levers], Action], rounds: int) -> list[str]:
    """Return the cells of a row: torchvision, this project, and the ratio, for each of `LEVERS`."""
    cells = []
    for label, levers in LEVERS.items():
        found = medians({"peer": peer(levers), "own": own(levers)}, rounds)
        cells += [f"{found['peer']:.0f}", f"{found['own']:.0f}", f"{found['own'] / found['peer']:.2f}"]
        print(f"{title}, {label}: {' '.join(cells[-3:])}", file=sys.stderr, flush=True)
    return cells


ROWS: dict[str, tuple[Callable[[Levers], Action], Callable[[Levers], Action]]] = {
    "RetinaNet R50, training step": (
        lambda levers: peer_step("retinanet", levers),
        lambda levers: OwnTraining("retinanet", levers).step,
    ),
    "FCOS R50, training step": (
        lambda levers: peer_step("fcos", levers),
        lambda levers: OwnTraining("fcos", levers).step,
    ),
    "RetinaNet R50, prediction": (
        lambda levers: peer_prediction("retinanet", levers),
        lambda levers: own_prediction("retinanet", levers),
    ),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="number of timed rounds per row (default 7)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = {}
    for row, (peer, own) in ROWS.items():
        rows[row] = compare(row, peer, own, options.rounds)
    header = [cell for label in LEVERS for cell in (f"torchvision, {label}", "ours", "ratio")]
    print(
        markdown(
            f"CPU ms: steps of {NUM_IMAGES} images of {TRAINED_PX} px, predictions of one of {PREDICTED_PX} px",
            header,
            rows,
        )
    )
    print(f"{hardware()}, one thread; medians of {options.rounds} rounds\n")
    training = {label: OwnTraining("retinanet", levers) for label, levers in LEVERS.items()}
    print(parts_table("RetinaNet R50, our training step", training, options.rounds))


if __name__ == "__main__":
    main()
