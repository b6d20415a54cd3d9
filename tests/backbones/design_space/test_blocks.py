"""The layers of a design block and their order."""

import math
from typing import Any

import pytest
import timm
import torch
from timm.layers.drop import DropPath
from torch import nn

from backbones.design_space.blocks import DesignBlock
from backbones.design_space.network import DesignNetwork
from backbones.spec.design import DesignSpec
from backbones.surgery.deformable import DeformableConv2d

BOTTLENECK: dict[str, Any] = {"depths": (2, 2, 2, 2), "widths": (16, 16, 16, 16), "ratio": 1 / 4}
INVERTED: dict[str, Any] = BOTTLENECK | {"ratio": 4, "groups": "depthwise"}


def network(**fields: Any) -> DesignNetwork:
    return DesignNetwork(DesignSpec.model_validate(BOTTLENECK | fields))


def last_block(**fields: Any) -> DesignBlock:
    block = network(**fields).stages[-1][-1]
    assert isinstance(block, DesignBlock)
    return block


def names(block: DesignBlock) -> str:
    """Return the names of the layers of the branch in their order, then those after the sum."""
    chain = [
        *(f"{name}" for name, _ in block.entry.named_children()),
        *(name for name, _ in block.branch.named_children()),
    ]
    return " ".join([*chain, "+", *(name for name, _ in block.exit.named_children())]).strip()


@pytest.mark.parametrize(
    ("fields", "layers"),
    [
        ({}, "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 + act3"),
        ({"order": "pre"}, "norm1 act1 conv1 norm2 act2 conv2 norm3 act3 conv3 +"),
        ({"order": "convnext"}, "conv1 norm1 conv2 norm2 act2 conv3 norm3 +"),
        ({"order": "convnext", "activations": 2}, "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 +"),
        (INVERTED | {"order": "convnext", "mixing": "first", "norms": 1}, "conv1 norm1 conv2 act2 conv3 +"),
        ({"activations": 1}, "conv1 norm1 conv2 norm2 conv3 norm3 + act3"),
        ({"activations": 2, "norms": 2}, "conv1 conv2 norm2 act2 conv3 norm3 + act3"),
        ({"order": "pre", "norms": 1, "activations": 1}, "norm1 conv1 conv2 act3 conv3 +"),
        ({"ratio": 1}, "conv1 norm1 act1 conv2 norm2 + act2"),
        ({"ratio": 1, "groups": "depthwise", "order": "convnext", "activations": 2}, "conv1 norm1 act1 conv2 norm2 +"),
        ({"attention": "se"}, "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 attention + act3"),
        (
            {"attention": {"kind": "se", "position": "mixing", "ratio": 1}},
            "conv1 norm1 act1 conv2 norm2 act2 attention conv3 norm3 + act3",
        ),
        (
            {"attention": {"kind": "gc", "position": "last_block"}},
            "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 + act3 attention",
        ),
        (
            {"attention": {"kind": "gc", "position": "before_last_block"}},
            "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 + act3",
        ),
        (
            {"layer_scale": 0.1, "stochastic_depth": 0.5, "attention": "gc"},
            "conv1 norm1 act1 conv2 norm2 act2 conv3 norm3 attention layer_scale drop_path + act3",
        ),
    ],
)
def test_layers_of_a_block_run_in_the_order_of_its_fields(fields: dict[str, Any], layers: str) -> None:
    assert names(last_block(**fields)) == layers


def test_drop_rate_grows_with_depth_and_needs_a_shortcut() -> None:
    drops = [module for module in network(stochastic_depth=0.7).modules() if isinstance(module, DropPath)]
    assert [drop.drop_prob for drop in drops] == pytest.approx([0.1 * index for index in range(1, 8)])
    without = network(stochastic_depth=0.7, projection=False, layer_scale=0.1)
    assert [stage[0].branch[-1].__class__ for stage in without.stages] == [nn.BatchNorm2d] * 4
    assert [type(stage[1].branch[-1]) for stage in without.stages] == [DropPath] * 4


@pytest.mark.parametrize(
    ("fields", "biased"),
    [
        ({}, set()),
        ({"norm": "gn", "norm_groups": 8}, set()),
        ({"order": "pre"}, set()),
        ({"order": "pre", "norms": 1}, {"branch.conv1", "branch.conv2"}),
        ({"norms": 1}, {"branch.conv1", "branch.conv3"}),
        ({"norm": "ln"}, {"branch.conv1", "branch.conv2", "branch.conv3"}),
    ],
)
def test_convolution_has_a_bias_unless_a_norm_cancels_it(fields: dict[str, Any], biased: set[str]) -> None:
    convolutions = dict(last_block(**fields).named_modules()).items()
    assert {name for name, one in convolutions if isinstance(one, nn.Conv2d) and one.bias is not None} == biased


@pytest.mark.parametrize(("groups", "fan_out"), [(1, 9 * 512), (16, 9 * 32), ("depthwise", 9)])
def test_kaiming_fan_out_is_per_group(groups: int | str, fan_out: int) -> None:
    torch.manual_seed(0)
    block = last_block(widths=(16, 16, 16, 512), groups=groups)
    assert block.branch.conv2.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)


def test_truncated_normal_has_standard_deviation_0_02_and_is_cut_off() -> None:
    torch.manual_seed(0)
    weight = last_block(widths=(16, 16, 16, 64), initialization="truncated_normal").branch.conv3.weight
    assert weight.std().item() == pytest.approx(0.02 * 0.88, rel=0.05)
    assert weight.abs().max() <= 0.04


@pytest.mark.parametrize(
    "element",
    [
        {"deformable": (1, 2, 3, 4), "kernel": 5, "groups": 2, "widths": (16, 16, 16, 16)},
        {"attention": "gc"},
        {"attention": {"kind": "nl", "position": "every_block", "stages": (2, 3, 4)}},
    ],
    ids=["deformable", "gc", "nl"],
)
def test_deformable_convolutions_and_attention_start_as_the_identity(element: dict[str, Any]) -> None:
    new = network(**element).eval()
    plain = network(**{name: value for name, value in element.items() if name in ("kernel", "groups")}).eval()
    plain.load_state_dict({name: value for name, value in new.state_dict().items() if name in plain.state_dict()})
    assert len(new.state_dict()) > len(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(new(images), plain(images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_all_spatial_convolutions_of_deformable_stages_are_deformable() -> None:
    kinds = {name: type(one) for name, one in network(deformable=(2,), ratio=1).named_modules() if ".conv" in name}
    deformable = {name for name, kind in kinds.items() if kind is DeformableConv2d}
    assert deformable == {f"stages.1.{block}.branch.conv{n}" for block in (0, 1) for n in (1, 2)}


def test_deep_stem_and_pooled_shortcuts_equal_resnet_d() -> None:
    theirs = timm.create_model("resnet18d").eval()
    spec = DesignSpec.model_validate({"preset": "resnet18", "stem": "deep", "downsampling": "average_down"})
    ours = DesignNetwork(spec).eval()
    stem = {
        "conv1": "conv1.0",
        "norm1": "conv1.1",
        "conv2": "conv1.3",
        "norm2": "conv1.4",
        "conv3": "conv1.6",
        "norm3": "bn1",
    }
    pairs = {f"stem.{own}": published for own, published in stem.items()}
    for i in range(4):
        for j in range(2):
            own, published = f"stages.{i}.{j}.", f"layer{i + 1}.{j}."
            pairs |= {
                f"{own}branch.{kind}{n}": f"{published}{short}{n}"
                for kind, short in (("conv", "conv"), ("norm", "bn"))
                for n in (1, 2)
            }
            pairs |= {
                f"{own}shortcut.conv": f"{published}downsample.1",
                f"{own}shortcut.norm": f"{published}downsample.2",
            }
    state = theirs.state_dict()
    for module, published in pairs.items():
        if module in dict(ours.named_modules()):
            ours.get_submodule(module).load_state_dict(theirs.get_submodule(published).state_dict())
    assert len(ours.state_dict()) == len(state) - 2, "all but the classifier has a counterpart"
    images = torch.randn(1, 3, 90, 75)
    with torch.no_grad():
        expected = theirs.forward_intermediates(images, indices=[1, 2, 3, 4], intermediates_only=True)
        for one, other in zip(ours(images), expected, strict=True):
            torch.testing.assert_close(one, other)


def test_deformable_stages_train_in_mixed_precision() -> None:
    design = network(deformable=(2, 4))
    with torch.autocast("cpu", torch.bfloat16):
        maps = design(torch.randn(2, 3, 64, 64))
    assert {feature.dtype for feature in maps} <= {torch.bfloat16, torch.float32}
    sum(feature.float().square().sum() for feature in maps).backward()
    offsets = [one.offset.weight.grad for one in design.modules() if isinstance(one, DeformableConv2d)]
    assert len(offsets) == 4
    assert all(grad is not None and grad.isfinite().all() and grad.abs().sum() > 0 for grad in offsets)
