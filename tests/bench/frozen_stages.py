"""Measure time and memory of a training step with 0 to 3 frozen stages, as a Markdown table.

The step (forward, losses, backward, AdamW) has the tasks of recipe:bccd_multitask on a ResNet-18, with 4 images of
256x320 pixels, bf16 and channels_last, on one thread. The cases alternate, and the fastest step of each counts, which
reduces the influence of other load on the machine.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from heads.base import BoxTarget, ClassTarget, Target
from pipelines.base.records import Category
from pipelines.model import MultiTaskModel, build_model
from pipelines.optim.param_groups import create_optimizer
from pipelines.spec.load import load_job
from pipelines.spec.model import ModelSpec
from pipelines.training.balancing import global_losses
from tests.bench.runs import hardware, markdown

STAGES = ("c3", "c4", "c5")
NUM_IMAGES, SIZE_HW, NUM_BOXES, NUM_CLASSES = 4, (256, 320), 12, 5
MIB = 2**20


class Case:
    """A network with some frozen stages, its optimizer, and one batch."""

    def __init__(self, spec: ModelSpec, num_frozen: int) -> None:
        torch.manual_seed(0)
        categories = {task: [Category(k + 1, str(k)) for k in range(NUM_CLASSES)] for task in spec.tasks}
        weights = {"subtype": torch.ones(NUM_CLASSES)}
        self.model: MultiTaskModel = build_model(spec, categories, class_weights=weights).train()
        self.model.freeze(frozenset(STAGES[:num_frozen]))
        self.optimizer = create_optimizer(self.model, spec, fused=True)
        self.images = torch.randint(0, 256, (NUM_IMAGES, 3, *SIZE_HW), dtype=torch.uint8)
        self.targets: dict[str, list[Target | None]] = {"cells": [], "lookup": [], "subtype": []}
        for _ in range(NUM_IMAGES):
            corners = torch.rand(NUM_BOXES, 2) * 200
            labels = torch.randint(0, NUM_CLASSES, (NUM_BOXES,))
            boxes = torch.cat([corners, corners + 16 + 30 * torch.rand(NUM_BOXES, 2)], dim=1)
            target = BoxTarget(boxes, labels, torch.zeros(NUM_BOXES, dtype=torch.bool), labels)
            self.targets["cells"].append(target)
            self.targets["lookup"].append(target)
            self.targets["subtype"].append(ClassTarget(torch.zeros(NUM_CLASSES)))

    def loss(self) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            losses = global_losses(self.model.loss(self.images, self.targets, [SIZE_HW] * NUM_IMAGES))
        return torch.stack(list(losses.tasks.values())).sum()

    def step_s(self) -> float:
        """Return the seconds of one step."""
        started = time.perf_counter()
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()
        return time.perf_counter() - started


def saved_bytes(model: nn.Module, forward: Callable[[], object]) -> int:
    """Return the bytes that autograd saves in `forward` for the backward: activations, and copies of weights in bf16.

    Parameters are not counted, and each storage is counted once.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        # The result is kept until the end, because reused memory of freed tensors would be counted only once.
        result = forward()
    del result
    return sum(kept.values())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--repeats", type=int, default=20, help="number of timed steps per case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    overrides = [("model.backbone.name", options.backbone)]
    spec = load_job(["recipe:bccd_multitask"], overrides).model
    cases = [Case(spec, count) for count in range(4)]
    seconds = [[case.step_s() for case in cases] for _ in range(options.repeats + 2)][2:]
    fastest = [min(column) for column in zip(*seconds, strict=True)]
    kept = [saved_bytes(case.model, case.loss) for case in cases]
    rows = {
        " ".join(STAGES[:count]) or "none": [
            f"{sum(p.numel() for p in case.model.parameters() if p.requires_grad):,}",
            f"{1000 * fastest[count]:.0f}",
            f"{fastest[count] / fastest[0]:.2f}",
            f"{kept[count] / MIB:.0f}",
            f"{kept[count] / kept[0]:.2f}",
        ]
        for count, case in enumerate(cases)
    }
    header = ["trainable parameters", "ms per step", "relative", "MiB kept for the backward pass", "relative"]
    print(markdown(f"Frozen stages: {options.backbone}, a step of {NUM_IMAGES} images", header, rows))
    print(f"{hardware()}, one thread; the fastest of {options.repeats} steps")


if __name__ == "__main__":
    main()
