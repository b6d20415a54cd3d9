"""Published weights under timm's names: the logits equal those of independent networks exactly."""

import re
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional
from torchvision import models

from backbones.catalog.rows import CATALOG
from backbones.create import create_backbone
from backbones.published_names import rename_to_timm
from backbones.weights import read_tensors
from backbones.weights_sources.rows import BACKBONES

LITES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")
STRIDES = {"tf_efficientnet_lite0": (1, 3, 5, 11), "tf_efficientnet_lite1": (1, 4, 7, 15)}
STRIDES["tf_efficientnet_lite2"] = STRIDES["tf_efficientnet_lite1"]
"""Numbers of the blocks with stride 2: the first ones of the stages 2, 3, 4 and 6 of table 1 in Tan and Le 2019."""


def lite_state(name: str) -> dict[str, Tensor]:
    """Return the published state dict of the installed package. Its classifier is stored transposed, and products of
    such matrices are rounded differently."""
    path = BACKBONES[name][0].path()
    if path is None:
        pytest.skip("the extra pyramidion[weights] is not installed")
    return {key: tensor.contiguous() for key, tensor in read_tensors(path).items()}


def lite_logits(images: Tensor, state: dict[str, Tensor], strided: tuple[int, ...]) -> Tensor:
    """EfficientNet-Lite as TensorFlow computes it, from the published names: padding "SAME", epsilon 1e-3, ReLU6."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        size, groups = weight.shape[-1], weight.shape[0] if weight.shape[1] == 1 else 1
        if stride == 1:  # the same number of zeros on both sides
            return functional.conv2d(x, weight, padding=size // 2, groups=groups)
        pads = [(-(-side // stride) - 1) * stride + size - side for side in (x.shape[3], x.shape[2])]
        x = functional.pad(x, [part for pad in pads for part in (pad // 2, pad - pad // 2)])
        return functional.conv2d(x, weight, stride=stride, groups=groups)

    def norm(x: Tensor, name: str) -> Tensor:
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *parts, eps=1e-3)

    x = functional.relu6(norm(conv(images, "_conv_stem", 2), "_bn0"))
    for number in range(1 + max(int(found[1]) for key in state if (found := re.match(r"_blocks\.(\d+)", key)))):
        block, shortcut = f"_blocks.{number}", x
        if f"{block}._expand_conv.weight" in state:
            x = functional.relu6(norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0"))
        stride = 2 if number in strided else 1
        x = functional.relu6(norm(conv(x, f"{block}._depthwise_conv", stride), f"{block}._bn1"))
        x = norm(conv(x, f"{block}._project_conv"), f"{block}._bn2")
        if stride == 1 and x.shape == shortcut.shape:
            x = x + shortcut
    x = functional.relu6(norm(conv(x, "_conv_head"), "_bn1"))
    return functional.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1), state["_fc.weight"], state["_fc.bias"])


@pytest.mark.parametrize("name", LITES)
def test_logits_of_efficientnet_lite_equal_those_of_tensorflows_arithmetic(name: str) -> None:
    state, network = lite_state(name), timm.create_model(name).eval()
    network.load_state_dict(rename_to_timm(state, network.state_dict()))
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        logits, expected = network(images), lite_logits(images, state, STRIDES[name])
    assert expected.std() > 0.1
    assert (logits - expected).abs().max() == 0


def test_logits_of_mobilenet_v2_equal_those_of_torchvision() -> None:
    torch.manual_seed(0)
    theirs = models.mobilenet_v2().eval()
    for norm in (module for module in theirs.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 1.5)
    ours = timm.create_model(CATALOG["mobilenet_v2_tv"].id).eval()
    ours.load_state_dict(rename_to_timm(theirs.state_dict(), ours.state_dict()))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert (ours(images) - theirs(images)).abs().max() == 0


def test_weights_need_the_padding_and_the_epsilon_of_their_network() -> None:
    """The same tensors fit timm's network with symmetric padding, but there they are other functions."""
    state = lite_state("tf_efficientnet_lite0")
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    network = timm.create_model("efficientnet_lite0").eval()
    network.load_state_dict(rename_to_timm(state, network.state_dict()))
    with torch.no_grad():
        assert (network(images) - lite_logits(images, state, STRIDES["tf_efficientnet_lite0"])).abs().max() > 0.5


@pytest.mark.parametrize("publish", [lambda state: state, lambda state: {"fc.weight": torch.zeros(1)}])
def test_names_that_are_timms_or_unknown_stay(publish: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    own = timm.create_model("mobilenetv2_035").state_dict()
    state = publish(dict(own))
    assert rename_to_timm(state, own) is state


def test_file_with_published_names_is_accepted_as_a_local_file() -> None:
    path = BACKBONES["tf_efficientnet_lite0"][0].path()
    if path is None:
        pytest.skip("the extra pyramidion[weights] is not installed")
    local = create_backbone("timm:tf_efficientnet_lite0", str(path))
    assert local.weights_report is not None
    assert local.weights_report.missing == ()
    assert torch.equal(local.state_dict()["body.network.conv_stem.weight"], read_tensors(path)["_conv_stem.weight"])
    assert local.mean == local.std == (0.5, 0.5, 0.5)
