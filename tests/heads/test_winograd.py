"""Winograd's algorithm gives the results and gradients of the plain convolution, up to rounding."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from heads import winograd
from heads.fast_convolution import WinogradConv2d, on_all_maps, use_winograd
from heads.winograd import winograd_conv2d

FORMATS = [torch.contiguous_format, torch.channels_last]
SIZES = [(12, 8), (7, 9), (1, 1), (3, 5)]


def _maps(memory_format: torch.memory_format, channels: int = 6) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, *size, generator=random).contiguous(memory_format=memory_format).requires_grad_()
        for size in SIZES
    ]


def _gradients(results: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    total = sum((result * torch.randn(result.shape, generator=random)).sum() for result in results)
    return list(torch.autograd.grad(total, inputs))


@pytest.fixture
def small_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the algorithm for convolutions of any size."""
    monkeypatch.setattr(winograd, "MIN_TILES", 1)
    monkeypatch.setattr(winograd, "MIN_CHANNELS", 1)
    monkeypatch.setattr("heads.fast_convolution.MIN_CHANNELS", 1)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("has_bias", [True, False])
def test_maps_of_any_size_and_their_gradients_equal_those_of_torch(
    memory_format: torch.memory_format, has_bias: bool
) -> None:
    torch.manual_seed(0)
    maps = _maps(memory_format)
    weight = torch.randn(5, 6, 3, 3).contiguous(memory_format=memory_format).requires_grad_()
    bias = torch.randn(5, requires_grad=True) if has_bias else None
    inputs = [*maps, weight, *([bias] if bias is not None else [])]
    expected = [functional.conv2d(level, weight, bias, padding=1) for level in maps]
    found = winograd_conv2d(maps, weight, bias)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert all(
        one.stride() == other.stride() for one, other in zip(found, expected, strict=True) if one[0, 0].numel() > 1
    )
    torch.testing.assert_close(_gradients(found, inputs), _gradients(expected, inputs), rtol=1e-5, atol=5e-4)


def test_error_is_a_few_millionths_of_the_result() -> None:
    torch.manual_seed(0)
    level, weight = torch.randn(1, 128, 32, 32), torch.randn(128, 128, 3, 3)
    exact = functional.conv2d(level.double(), weight.double(), padding=1)
    (found,) = winograd_conv2d([level], weight, None)
    assert (found - exact).norm() < 5e-6 * exact.norm()


def test_frozen_weights_and_maps_without_gradient_are_skipped() -> None:
    maps = _maps(torch.contiguous_format)
    weight = torch.randn(5, 6, 3, 3)
    winograd_conv2d(maps, weight, None)[0].sum().backward()
    assert maps[0].grad is not None
    assert weight.grad is None
    weight.requires_grad_()
    winograd_conv2d([level.detach() for level in maps], weight, None)[0].sum().backward()
    assert weight.grad is not None


@pytest.mark.usefixtures("small_is_faster")
@pytest.mark.parametrize("memory_format", FORMATS)
def test_shared_layers_equal_those_called_map_by_map(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(6, 4, 3, padding=1))
    fast = copy.deepcopy(plain)
    use_winograd(fast)
    assert isinstance(fast[0], WinogradConv2d)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    maps = _maps(memory_format)
    expected = [plain(level) for level in maps]
    found = on_all_maps(fast, maps)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    pairs = [(found, fast), (expected, plain)]
    gradients = [_gradients(results, [*maps, *layers.parameters()]) for results, layers in pairs]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("small_is_faster")
def test_hooks_of_layers_are_called_for_each_map() -> None:
    layers = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
    use_winograd(layers)
    shapes: list[torch.Size] = []
    layers[0].register_forward_hook(lambda _layer, _inputs, output: shapes.append(output.shape))
    on_all_maps(layers, _maps(torch.contiguous_format))
    assert [tuple(shape[2:]) for shape in shapes] == SIZES


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3, padding=2, dilation=2),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(128, 36, 3, padding=1),
    ],
)
def test_other_convolutions_stay_as_they_are(conv: nn.Conv2d) -> None:
    use_winograd(conv)
    assert type(conv) is nn.Conv2d


def test_bf16_small_maps_and_float64_use_the_plain_convolution() -> None:
    torch.manual_seed(0)
    fast = nn.Conv2d(128, 128, 3, padding=1)
    plain = copy.deepcopy(fast)
    use_winograd(fast)
    large, small = torch.randn(1, 128, 40, 40), torch.randn(1, 128, 8, 8)
    assert not torch.equal(fast(large), plain(large))
    assert torch.equal(fast(small), plain(small))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(large), plain(large))
    assert torch.equal(fast.double()(large.double()), plain.double()(large.double()))
