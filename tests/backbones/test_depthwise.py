"""Depthwise convolutions that are slow in bf16 compute in float32."""

import copy

import pytest
import torch
from torch import nn

from backbones.create import create_backbone
from backbones.depthwise import compute_slow_depthwise_in_float32, num_float32_convolutions
from backbones.spec.surgery import SurgerySpec


def conv(channels: int = 8, kernel: int = 3, stride: int = 1, groups: int = 8) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=groups)


def is_changed(module: nn.Module) -> bool:
    network = nn.Sequential(module)
    compute_slow_depthwise_in_float32(network)
    return num_float32_convolutions(network) == 1


def test_only_depthwise_convolutions_with_a_large_kernel_or_a_stride_are_changed() -> None:
    assert [is_changed(conv(kernel=kernel, stride=stride)) for kernel, stride in ((3, 1), (5, 1), (3, 2), (7, 2))] == [
        False, True, True, True,
    ]  # fmt: skip
    assert not is_changed(conv(kernel=5, groups=4))
    assert not is_changed(conv(kernel=5, groups=1))
    assert not is_changed(nn.Conv2d(1, 8, 5, 2))


def test_convolution_computes_in_float32_under_autocast_and_returns_bf16() -> None:
    torch.manual_seed(0)
    plain = conv(kernel=5)
    changed = copy.deepcopy(plain)
    compute_slow_depthwise_in_float32(changed)
    images = torch.randn(2, 8, 9, 9).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        result = changed(images)
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, plain(images.float()).bfloat16())
    result.float().sum().backward()
    plain(images.float()).sum().backward()
    assert changed.weight.grad is not None
    assert plain.weight.grad is not None
    assert changed.weight.grad.dtype == torch.float32
    torch.testing.assert_close(changed.weight.grad, plain.weight.grad, rtol=1e-5, atol=1e-5)


def test_float32_is_not_affected_and_parameters_keep_their_names() -> None:
    torch.manual_seed(0)
    network = create_backbone("mobilenet_v3_small").eval()
    names, images = list(network.state_dict()), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(images)["c5"]
        compute_slow_depthwise_in_float32(network)
        assert num_float32_convolutions(network) == 10
        twin = copy.deepcopy(network)
        assert torch.equal(network(images)["c5"], expected)
    assert list(network.state_dict()) == names
    assert num_float32_convolutions(twin) == 10


@pytest.mark.parametrize("name", ["resnet14_thin", "regnet_x_200mf", "vit_tiny"])
def test_networks_without_depthwise_convolutions_stay_as_they_are(name: str) -> None:
    network = create_backbone(name)
    compute_slow_depthwise_in_float32(network)
    assert num_float32_convolutions(network) == 0


def test_changed_branches_can_be_folded_and_the_folded_convolutions_are_changed_by_a_second_call() -> None:
    network = create_backbone("mobileone_s0", surgery=SurgerySpec(reparameterize=True)).eval()
    images = torch.randn(1, 3, 64, 64)
    compute_slow_depthwise_in_float32(network)
    with torch.no_grad():
        expected = network(images)["c5"]
        network.fold()
        torch.testing.assert_close(network(images)["c5"], expected, rtol=1e-3, atol=1e-3)
    compute_slow_depthwise_in_float32(network)
    assert num_float32_convolutions(network) > 0
