"""Deformable convolutions: behavior before training, offsets, masks and precision."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from backbones.meta_device import built_on_meta
from backbones.surgery.deformable import DeformableConv2d

SHAPES: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2, "bias": False},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 4},
    {"kernel_size": (1, 5), "padding": (0, 2), "groups": 8},
]


def conv_and_map(shape: dict[str, Any]) -> tuple[nn.Conv2d, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Conv2d(8, 16, **shape), torch.randn(2, 8, 11, 13)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_untrained_layer_equals_the_replaced_convolution(
    shape: dict[str, Any], memory_format: torch.memory_format
) -> None:
    """Outputs and gradients of both layers, which share their parameters, are compared."""
    conv, feature = conv_and_map(shape)
    conv, feature = conv.to(memory_format=memory_format), feature.to(memory_format=memory_format)
    deformable = DeformableConv2d.replacing(conv)
    assert deformable.weight is conv.weight
    outputs, gradients = [], []
    for module in (conv, deformable):
        image = feature.clone().requires_grad_()
        conv.zero_grad()
        outputs.append(module(image))
        outputs[-1].pow(2).sum().backward()
        assert conv.weight.grad is not None
        gradients.append((image.grad, conv.weight.grad.clone()))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


def test_state_dict_has_keys_of_convolution_and_offsets() -> None:
    conv, _ = conv_and_map(SHAPES[0])
    state = DeformableConv2d.replacing(conv).state_dict()
    assert list(state) == ["weight", "bias", "offset.weight", "offset.bias"]
    assert state["offset.weight"].shape == (27, 8, 3, 3)


def test_offset_of_one_cell_samples_the_next_cell() -> None:
    conv, feature = conv_and_map(SHAPES[0])
    deformable = DeformableConv2d.replacing(conv)
    with torch.no_grad():
        deformable.offset.bias[1:18:2] = 1.0  # (y, x) for each place of the kernel, then the masks
        moved = deformable(feature)
        torch.testing.assert_close(moved[..., 1:-2], conv(feature)[..., 2:-1], rtol=1e-4, atol=1e-5)


def test_masks_weight_samples_but_not_the_bias() -> None:
    conv, feature = conv_and_map(SHAPES[0])
    deformable = DeformableConv2d.replacing(conv)
    assert conv.bias is not None
    bias = conv.bias.detach().view(1, -1, 1, 1)
    with torch.no_grad():
        plain = deformable(feature) - bias
        deformable.offset.bias[18:] = 50.0
        torch.testing.assert_close(deformable(feature) - bias, 2 * plain, rtol=1e-4, atol=1e-5)
        deformable.offset.bias[18:] = -50.0
        torch.testing.assert_close(deformable(feature) - bias, torch.zeros_like(plain), rtol=0, atol=1e-6)


def test_offsets_get_a_gradient_in_the_first_step() -> None:
    conv, feature = conv_and_map(SHAPES[0])
    deformable = DeformableConv2d.replacing(conv)
    deformable(feature).pow(2).mean().backward()
    assert deformable.offset.weight.grad is not None
    assert bool((deformable.offset.weight.grad.abs().amax(dim=(1, 2, 3)) > 0).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_maps_are_convolved_in_float32_and_keep_their_dtype(dtype: torch.dtype) -> None:
    conv, feature = conv_and_map(SHAPES[0])
    deformable = DeformableConv2d.replacing(conv)
    with torch.no_grad():
        deformable.offset.bias.copy_(torch.randn(27))
    expected = deformable(feature.to(dtype).float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(deformable(feature.to(dtype).float()), expected)
        assert torch.equal(deformable(feature.to(dtype)), expected.to(dtype))
    loss = deformable(feature.to(dtype)).float().sum()
    loss.backward()
    narrow = copy.deepcopy(deformable).to(dtype)
    assert narrow(feature.to(dtype)).dtype == dtype


def test_deformable_convolution_runs_on_the_meta_device() -> None:
    with built_on_meta():
        deformable = DeformableConv2d(8, 16, 3, stride=2, padding=1)
    assert deformable(torch.empty(1, 8, 11, 13, device="meta")).shape == (1, 16, 6, 7)


def test_reset_offsets_restores_the_plain_convolution() -> None:
    conv, feature = conv_and_map(SHAPES[0])
    deformable = DeformableConv2d.replacing(conv)
    nn.init.normal_(deformable.offset.weight)
    assert not torch.allclose(deformable(feature), conv(feature), atol=1e-3)
    deformable.reset_offsets()
    torch.testing.assert_close(deformable(feature), conv(feature), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"kernel_size": 2}, r"got \(2, 2\); a deformable convolution needs an odd kernel"),
        ({"kernel_size": 3, "padding": "same"}, "got 'same' with zeros"),
        ({"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}, "with reflect"),
    ],
)
def test_unsupported_arguments_are_rejected(shape: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeformableConv2d(8, 8, **shape)
