"""The contract every backbone fulfills.

Legend: B batch, C channels, H W size in pixels.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from backbones.weights import WeightsReport

LEVELS = ("c3", "c4", "c5")
"""Feature levels, finest first; level ck has a nominal stride of 2**k. They are the stage names too: the stem
belongs to the first level that it feeds, c3."""


@dataclass(frozen=True)
class FeatureSpec:
    """Geometry of one feature level, measured on the built network.

    The center of cell i along an axis lies at ``offset_px + (i + 0.5) * stride`` in input pixels, where pixel 0
    covers [0, 1].
    """

    channels: int
    stride: float
    offset_px: float = 0.0


class Backbone(nn.Module):
    """A network that turns images into three feature levels.

    Attributes:
        feature_specs: geometry by level, finest first.
        stages: the stage (a name of `LEVELS`) of every parameter, by the name that `named_parameters` gives. A stage's
            parameters need nothing of the stages behind it, so that freezing stages from c3 on leaves no backward below
            the first that trains. In a network with levels of its own, a level needs no stage behind its own; where
            levels are made of a single map, stages are thirds of the depth, and every level needs all.
        layers: the layer of every parameter: 0 is nearest the image, no number is left out, and those of c3 come before
            those of c4, those before c5.
        mean, std: what the network's weights expect of RGB values in [0, 1].
        weights_report: what a local file gave; None where the weights came from elsewhere.
    """

    feature_specs: dict[str, FeatureSpec]
    stages: dict[str, str]
    layers: dict[str, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_report: WeightsReport | None

    def fold(self) -> None:
        """Put one convolution in place of the branches of each block, for good.

        In eval mode the maps stay, but for rounding; `stages` and `layers` are those of what is there then. A network
        that is folded stays as it is.

        Raises:
            ValueError: none of its blocks can be folded.
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return {"c3", "c4", "c5"}: (B, C, H / stride, W / stride), NCHW, finest first.

        Args:
            images: (B, 3, H, W), normalized with `mean` and `std`, of any size: they are padded with zeros at the right
                and the bottom to multiples of 32, and H and W mean the padded size.
        """
        raise NotImplementedError
