"""Compare the time of a training step (forward and backward) of pairs of networks, as a Markdown table.

The pairs are designs and the library's network with the same layers, catalog rows and timm's feature extractor of the
same network, and networks with and without surgery. The networks of a pair alternate, and the fastest step of each
counts, which reduces the influence of other load on the machine.
"""

import argparse
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

from backbones.create import create_backbone
from backbones.spec.design import DesignSpec
from backbones.spec.surgery import SurgerySpec
from tests.bench.runs import hardware, markdown

NUM_IMAGES, SIZE_HW = 4, (224, 224)


class Levels(nn.Module):
    """A feature extractor of timm that returns the maps like a backbone."""

    def __init__(self, name: str) -> None:
        super().__init__()
        indices = {"convnext_tiny": (1, 2, 3)}.get(name, (2, 3, 4))
        self.network = timm.create_model(name, features_only=True, feature_cls="getter", out_indices=indices)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(zip(("c3", "c4", "c5"), self.network(images), strict=True))


def _design(preset: str) -> Callable[[], nn.Module]:
    return lambda: create_backbone(DesignSpec(preset=preset))


def _row(name: str, **surgery: object) -> Callable[[], nn.Module]:
    return lambda: create_backbone(name, surgery=SurgerySpec.model_validate(surgery))


def _timm(name: str) -> Callable[[], nn.Module]:
    return lambda: Levels(name)


PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "design resnet50 / timm": (_design("resnet50"), _timm("resnet50")),
    "design preresnet50 / timm": (_design("preresnet50"), _timm("resnetv2_50")),
    "design mobilenet_v2 / timm": (_design("mobilenet_v2"), _timm("mobilenetv2_100")),
    "design densenet121 / timm": (_design("densenet121"), _timm("densenet121")),
    "design convnext_tiny / timm": (_design("convnext_tiny"), _timm("convnext_tiny")),
    "row resnet50 / timm": (_row("resnet50"), _timm("resnet50")),
    "gcnet50 / resnet50": (_row("gcnet50"), _row("resnet50")),
    "nlnet50 / resnet50": (_row("nlnet50"), _row("resnet50")),
    "frozen BatchNorm / resnet50": (_row("resnet50", freeze_batchnorm=True), _row("resnet50")),
    "dcn_resnet50 / resnet50": (_row("dcn_resnet50"), _row("resnet50")),
}


def step_s(network: nn.Module, images: Tensor) -> float:
    """Return the seconds of a forward in bf16 and its backward."""
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        features = network(images)
    torch.stack([feature.float().mean() for feature in features.values()]).sum().backward()
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="number of timed steps per network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.randn(NUM_IMAGES, 3, *SIZE_HW).contiguous(memory_format=torch.channels_last)
    rows = {}
    for title, pair in PAIRS.items():
        networks = [build().train().to(memory_format=torch.channels_last) for build in pair]
        seconds = [[step_s(network, images) for network in networks] for _ in range(options.repeats + 1)][1:]
        ours, peer = (min(column) for column in zip(*seconds, strict=True))
        rows[title] = [f"{1000 * ours:.0f}", f"{1000 * peer:.0f}", f"{ours / peer:.2f}"]
    print(markdown(f"A step of {NUM_IMAGES} images of {SIZE_HW[0]} px", ["ms first", "ms second", "ratio"], rows))
    print(f"{hardware()}, one thread, bf16, channels last; the fastest of {options.repeats} steps")


if __name__ == "__main__":
    main()
