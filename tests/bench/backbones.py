"""Compare the time of a training step (forward and backward) of pairs of networks, and of precisions, as tables.

The pairs are designs and the library's network with the same layers, catalog rows and timm's feature extractor of the
same network, and networks with and without surgery. The networks of a pair alternate, and the fastest step of each
counts, which reduces the influence of other load on the machine.

The lightest network of each family is compared in float32, in bf16, and in bf16 with slow depthwise convolutions in
float32, which is what `precision: auto` trains with. Times of this table are CPU times of the process.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import timm
import torch
from torch import Tensor, nn

from backbones.base import Backbone
from backbones.catalog.rows import CATALOG
from backbones.create import create_backbone
from backbones.depthwise import compute_slow_depthwise_in_float32
from backbones.fpn import FPN
from backbones.spec.design import DesignSpec
from backbones.spec.surgery import SurgerySpec
from pipelines.spec.model import NeckSpec
from tests.backbones.sizes import lightest_of_families
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


def with_neck(backbone: Backbone) -> nn.Module:
    """Return the part that the network of every document contains: the backbone and the default neck."""
    neck = NeckSpec()
    fpn = FPN(backbone.feature_specs, channels=neck.channels, p6_from=neck.p6_from, norm=neck.norm)
    return nn.Sequential(backbone, fpn)


def precisions_ms(name: str, size_px: int, repeats: int, *, has_neck: bool) -> list[float]:
    """Return the fastest step of a network in float32, in bf16, and in bf16 with slow convolutions in float32."""
    images = torch.randn(NUM_IMAGES, 3, size_px, size_px).contiguous(memory_format=torch.channels_last)
    backbones = [create_backbone(name) for _ in range(2)]
    networks = [with_neck(backbone) if has_neck else backbone for backbone in backbones]
    plain, mixed = (network.train().to(memory_format=torch.channels_last) for network in networks)
    compute_slow_depthwise_in_float32(mixed)

    def step_ms(network: nn.Module, *, is_bf16: bool) -> float:
        started = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            features = network(images)
        torch.stack([feature.float().mean() for feature in features.values()]).sum().backward()
        return 1000 * (time.process_time() - started)

    steps = [
        (step_ms(plain, is_bf16=False), step_ms(plain, is_bf16=True), step_ms(mixed, is_bf16=True))
        for _ in range(repeats + 1)
    ]
    return [min(column) for column in zip(*steps[1:], strict=True)]


def print_precisions(names: Sequence[str], size_px: int, repeats: int, *, has_neck: bool) -> None:
    """Print the table of precisions."""
    rows = {}
    for name in names:
        float32, bf16, mixed = precisions_ms(name, size_px, repeats, has_neck=has_neck)
        rows[f"{CATALOG[name].family}: `{name}`"] = [
            *(f"{ms:.0f}" for ms in (float32, bf16, mixed)), f"{bf16 / float32:.2f}", f"{mixed / float32:.2f}",
        ]  # fmt: skip
        print(f"{name}: {rows[f'{CATALOG[name].family}: `{name}`']}", file=sys.stderr, flush=True)
    columns = ["float32, ms", "bf16, ms", "`auto`, ms", "bf16 / float32", "`auto` / float32"]
    print(markdown(f"A step of {NUM_IMAGES} images of {size_px} px", columns, rows))
    print(f"{hardware()}, one thread, channels last; the fastest of {repeats} steps")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="number of timed steps per network")
    parser.add_argument("--only-precisions", action="store_true", help="omit the pairs of networks")
    parser.add_argument("--size", type=int, default=SIZE_HW[0], help="side of the images for the table of precisions")
    parser.add_argument("--neck", action="store_true", help="measure backbones with the neck in this table")
    parser.add_argument("names", nargs="*", help="networks for the table of precisions; default: one of each family")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.only_precisions:
        print_pairs(options.repeats)
    names = options.names or lightest_of_families(up_to_giga_macs=8)
    print_precisions(names, options.size, options.repeats, has_neck=options.neck)


def print_pairs(repeats: int) -> None:
    """Print the table of pairs."""
    images = torch.randn(NUM_IMAGES, 3, *SIZE_HW).contiguous(memory_format=torch.channels_last)
    rows = {}
    for title, pair in PAIRS.items():
        networks = [build().train().to(memory_format=torch.channels_last) for build in pair]
        seconds = [[step_s(network, images) for network in networks] for _ in range(repeats + 1)][1:]
        ours, peer = (min(column) for column in zip(*seconds, strict=True))
        rows[title] = [f"{1000 * ours:.0f}", f"{1000 * peer:.0f}", f"{ours / peer:.2f}"]
    print(markdown(f"A step of {NUM_IMAGES} images of {SIZE_HW[0]} px", ["ms first", "ms second", "ratio"], rows))
    print(f"{hardware()}, one thread, bf16, channels last; the fastest of {repeats} steps")


if __name__ == "__main__":
    main()
