"""Isotropic ConvNeXt (Liu et al. 2022, arXiv 2201.03545, section 3.3, table 2): ConvNeXt blocks at a single scale.

ConvNeXt-S (isotropic): an embedding of patches of 16x16 pixels, 18 blocks of 384 channels, a LayerNorm; no
downsampling. Like the authors' network it has no layer scale, and its weights are drawn from truncated normal
distributions with standard deviation 0.02.

Deviation: the last norm is applied to each cell of the map; in the paper's classifier it follows the global pooling.
"""

from timm.layers.norm import LayerNorm2d
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn

from backbones.simple_pyramid import ends_of_thirds


class ConvNeXtIsotropic(nn.Module):
    """Network that returns maps with stride 16 after 1/3, 2/3 and all of its blocks; the last map is normalized."""

    stride = 16

    def __init__(self, depth: int = 18, width: int = 384) -> None:
        super().__init__()
        self.width = width
        self.stem = nn.Conv2d(3, width, self.stride, stride=self.stride)
        self.blocks = nn.Sequential(*(ConvNeXtBlock(width, ls_init_value=None) for _ in range(depth)))
        self.norm = LayerNorm2d(width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return three maps (B, `width`, H / 16, W / 16)."""
        ends = ends_of_thirds(len(self.blocks))
        maps = []
        feature = self.stem(images)
        for k, block in enumerate(self.blocks):
            feature = block(feature)
            if k in ends:
                maps.append(feature)
        maps[-1] = self.norm(maps[-1])
        return maps
