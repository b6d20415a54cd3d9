"""The simple feature pyramid, and stages of single-scale networks."""

import re

import pytest
import torch
import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from backbones.base import LEVELS
from backbones.create import TappedBackbone
from backbones.simple_pyramid import SimplePyramid, SingleScaleExtractor, Upsampling, ends_of_thirds


class PlainNetwork(nn.Module):
    """A patch embedding, six convolutions, a vector that is added before the last one, and a norm."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.late_scale = nn.Parameter(torch.ones(8, 1, 1))
        self.embedding = nn.Conv2d(3, 8, stride, stride)
        self.blocks = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(6))
        self.norm = LayerNorm2d(8)

    def forward(self, images: Tensor) -> list[Tensor]:
        feature = self.embedding(images)
        maps = []
        for k, block in enumerate(self.blocks):
            feature = block(feature * self.late_scale if k == 5 else feature).relu()
            maps.append(feature)
        return [maps[1], maps[3], self.norm(maps[5])]


class Plain(SingleScaleExtractor):
    def __init__(self, stride: int, upsampling: Upsampling | None = None) -> None:
        super().__init__(PlainNetwork(stride), 8, stride, (0.5,) * 3, (0.5,) * 3, upsampling)

    def maps_by_depth(self, images: Tensor, *, last_only: bool = False) -> list[Tensor]:
        maps: list[Tensor] = self.network(images)
        return maps


def plain(stride: int = 16, upsampling: Upsampling | None = None) -> TappedBackbone:
    torch.manual_seed(0)
    return TappedBackbone(Plain(stride, upsampling))


def images(batch: int, height: int = 96, width: int = 128) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_transposed_convolution_has_one_matrix_per_output_cell() -> None:
    pyramid, feature = SimplePyramid(8, 16), torch.randn(2, 8, 4, 6)
    c3, c4, c5 = pyramid(feature)
    cells = torch.einsum("bdhw,dcyx->bchywx", feature, pyramid.get_parameter("finer.weight"))
    bias = pyramid.get_parameter("finer.bias").view(-1, 1, 1)
    torch.testing.assert_close(c3, cells.reshape(2, 4, 8, 12) + bias)
    torch.testing.assert_close(c4, feature, rtol=0, atol=0)
    torch.testing.assert_close(c5, feature.view(2, 8, 2, 2, 3, 2).amax(dim=(3, 5)), rtol=0, atol=0)


def test_constant_map_stays_constant_with_interpolation_but_not_with_transposed_convolution() -> None:
    """The border is excluded because of the padding."""
    flat = torch.randn(1, 8, 1, 1).expand(1, 8, 5, 5)
    interpolated, transposed = (
        SimplePyramid(8, 16, "interpolated")(flat)[0],
        SimplePyramid(8, 16, "transposed")(flat)[0],
    )
    assert interpolated.shape == transposed.shape == (1, 4, 10, 10)
    inner = interpolated[..., 1:-1, 1:-1]
    torch.testing.assert_close(inner, inner[..., :1, :1].expand_as(inner))
    assert (transposed[..., 0, 0] - transposed[..., 0, 1]).abs().max() > 1e-3
    torch.testing.assert_close(transposed[..., ::2, ::2], transposed[..., :1, :1].expand(1, 4, 5, 5))


def test_map_of_stride_8_is_c3_and_is_pooled() -> None:
    feature = torch.randn(2, 8, 8, 12)
    c3, c4, c5 = SimplePyramid(8, 8)(feature)
    torch.testing.assert_close(c3, feature, rtol=0, atol=0)
    torch.testing.assert_close(c4, F.max_pool2d(feature, 2), rtol=0, atol=0)
    torch.testing.assert_close(c5, F.max_pool2d(feature, 4), rtol=0, atol=0)


@pytest.mark.parametrize("upsampling", ["transposed", "interpolated"])
def test_upsampling_is_rejected_for_a_map_of_stride_8(upsampling: Upsampling) -> None:
    with pytest.raises(
        ValueError, match=f"surgery.upsampling: got '{upsampling}', .* stride 8 .*: remove this setting"
    ):
        SimplePyramid(8, 8, upsampling)


@pytest.mark.parametrize("upsampling", ["transposed", "interpolated"])
@pytest.mark.parametrize("stride", [16, 14])
def test_images_of_any_size_and_batches_of_one_have_three_levels(stride: int, upsampling: Upsampling) -> None:
    backbone = plain(stride, upsampling)
    assert [spec.channels for spec in backbone.feature_specs.values()] == [4, 8, 8]
    for height, width, cells in ((250, 333, (32, 44)), (32, 32, (4, 4)), (33, 64, (8, 8))):
        features = backbone(images(1, height, width))
        for level, feature in features.items():
            factor = 2 ** (int(level[1]) - 3)
            assert feature.shape[-2:] == (cells[0] // factor, cells[1] // factor)
            assert feature.isfinite().all()


@pytest.mark.parametrize(("stride", "normed"), [(16, ["c3"]), (14, ["c3"]), (8, []), (7, [])])
def test_only_levels_without_the_norm_of_the_network_get_a_norm(stride: int, normed: list[str]) -> None:
    backbone = plain(stride)
    assert [level for level in LEVELS if not isinstance(backbone.norms[level], nn.Identity)] == normed


@pytest.mark.parametrize("stride", [7, 14])
def test_images_are_shrunk_to_seven_eighths_for_networks_with_stride_7_or_14(stride: int) -> None:
    backbone = plain(stride).eval()
    smaller = F.interpolate(images(1), (84, 112), mode="bilinear", antialias=True)
    level = "c3" if stride == 7 else "c4"
    body = backbone.body
    assert isinstance(body, Plain)
    torch.testing.assert_close(backbone(images(1))[level], body.maps_by_depth(smaller)[-1])


def test_shift_by_32_pixels_shifts_levels_of_a_shrunken_image_by_whole_cells() -> None:
    backbone = plain(7).eval()
    shifted = backbone(images(1, 256, 256).roll((32, 32), dims=(2, 3)))
    for level, feature in backbone(images(1, 256, 256)).items():
        cells = 32 // 2 ** int(level[1])
        edge = 12 // (4 // cells)
        moved = feature.roll((cells, cells), dims=(2, 3))[..., edge:-edge, edge:-edge]
        torch.testing.assert_close(shifted[level][..., edge:-edge, edge:-edge], moved, rtol=0, atol=1e-5)


def test_stages_are_thirds_of_the_depth() -> None:
    stages = plain().stages
    parts = {"embedding": "c3", "blocks.0": "c3", "blocks.1": "c3", "blocks.2": "c4", "blocks.3": "c4"}
    parts |= {"blocks.4": "c5", "blocks.5": "c5", "late_scale": "c5", "norm": "c5"}
    expected = {f"body.network.{part}": stage for part, stage in parts.items()}
    expected |= {"body.pyramid.finer": "c5", "norms.c3": "c5"}
    assert {re.sub(r"\.(weight|bias)$", "", name): stage for name, stage in stages.items()} == expected


@pytest.mark.parametrize("upsampling", ["transposed", "interpolated"])
def test_every_parameter_of_a_single_scale_body_gets_a_gradient(upsampling: Upsampling) -> None:
    backbone = plain(upsampling=upsampling)
    assert list(backbone.stages) == [name for name, _ in backbone.named_parameters()]
    torch.stack([feature.square().mean() for feature in backbone(images(2)).values()]).sum().backward()
    assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(("frozen", "first_trained"), [(("c3",), 2), (("c3", "c4"), 4), (LEVELS, 6)])
def test_no_backward_runs_below_the_first_trainable_stage(frozen: tuple[str, ...], first_trained: int) -> None:
    backbone = plain()
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(backbone.stages[name] not in frozen)
    wants_gradient: dict[str, bool] = {}
    course = ["embedding", *(f"blocks.{k}" for k in range(6))]
    for name in course:
        backbone.body.network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: wants_gradient.update({name: output.requires_grad})
        )
    features = backbone(images(1))
    assert wants_gradient == {name: k > first_trained for k, name in enumerate(course)}
    trained = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    if trained:
        torch.stack([feature.square().mean() for feature in features.values()]).sum().backward()
    assert all(parameter.grad is not None for parameter in trained.values())
    assert all(parameter.grad is None for name, parameter in backbone.named_parameters() if name not in trained)


def test_layers_grow_with_depth_and_the_pyramid_is_in_the_last() -> None:
    layers = plain().layers
    course = ["body.network.embedding.weight", *(f"body.network.blocks.{k}.weight" for k in range(6))]
    assert [layers[name] for name in course] == sorted({layers[name] for name in course})
    last_modules = {layers[f"{name}.weight"] for name in ("body.network.norm", "body.pyramid.finer", "norms.c3")}
    assert last_modules == {layers[course[-1]]} == {max(layers.values())}


def test_earlier_thirds_are_longer_if_thirds_are_unequal() -> None:
    assert ends_of_thirds(12) == [3, 7, 11]
    assert ends_of_thirds(32) == [10, 21, 31]
    assert ends_of_thirds(4) == [1, 2, 3]
