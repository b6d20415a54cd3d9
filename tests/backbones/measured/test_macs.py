"""Counting of multiply-accumulates."""

import pytest
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from backbones.create import create_backbone
from backbones.measured.macs import Macs, count_macs
from backbones.meta_device import built_on_meta


class Deformable(nn.Module):
    """A 1x1 convolution for the offsets, and a deformable 3x3 convolution in two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Conv2d(3, 18, 1)
        self.convolution = DeformConv2d(3, 6, 3, padding=1, groups=3)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return one map of the image's size."""
        return [self.convolution(images, self.offset(images))]


class Attention(nn.Module):
    """Attention of every pixel to every other: two matrix products."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return one map of the image's size."""
        tokens = images.flatten(2).transpose(1, 2)
        return [nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)]


def test_deformable_convolution_costs_as_much_as_a_plain_one() -> None:
    cells = 8 * 10
    macs = count_macs(Deformable(), (8, 10))
    assert macs == Macs(total=cells * (3 * 18 + 6 * 9), deformable=cells * 6 * 9)


def test_both_matrix_products_of_attention_are_counted() -> None:
    assert count_macs(Attention(), (4, 4)) == Macs(total=2 * 16 * 16 * 3, deformable=0)


@pytest.mark.parametrize(
    ("name", "gmacs"), [("tv:resnet18", 1.81), ("tv:resnet50", 4.09), ("tv:mobilenet_v3_small", 0.06)]
)
def test_macs_equal_published_figures(name: str, gmacs: float) -> None:
    with built_on_meta():
        backbone = create_backbone(name)
    assert count_macs(backbone, (224, 224)).total / 1e9 == pytest.approx(gmacs, abs=0.01)
