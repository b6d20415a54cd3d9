"""The contract of backbones.

Legend: B batch, C channels, H W size in pixels.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from backbones.weights import WeightsReport

LEVELS = ("c3", "c4", "c5")
"""Feature levels, finest first; level ck has a nominal stride of 2**k. They are also the names of the stages: the
stem belongs to the first level that it feeds, c3."""


@dataclass(frozen=True)
class FeatureSpec:
    """Geometry of one feature level, measured on the built network.

    The center of cell i along an axis is at ``offset_px + (i + 0.5) * stride`` in input pixels, where pixel 0 covers
    [0, 1].
    """

    channels: int
    stride: float
    offset_px: float = 0.0


class Backbone(nn.Module):
    """A network that turns images into three feature levels.

    Attributes:
        feature_specs: geometry by level, finest first.
        stages: the stage (a name in `LEVELS`) of every parameter, keyed as in `named_parameters`. A stage does not
            depend on later stages, so with c3 to ck frozen there is no backward pass below the first trainable stage.
            A level does not depend on later stages either, except in single-scale networks: their stages are thirds of
            the depth, and every level depends on all of them.
        layers: the layer of every parameter: 0 is nearest to the image, numbers have no gaps, and the layers of c3 come
            before those of c4, which come before those of c5.
        mean, std: mean and standard deviation of RGB values in [0, 1] that the network's weights expect.
        weights_origin: where its pretrained weights come from; None if they are random.
        weights_report: the tensors that were loaded from a file; None if the network's library loaded its own weights,
            or none.
    """

    feature_specs: dict[str, FeatureSpec]
    stages: dict[str, str]
    layers: dict[str, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_origin: str | None
    weights_report: WeightsReport | None

    def fold(self) -> None:
        """Replace the branches of each block with one convolution, permanently.

        In eval mode the maps stay the same except for rounding. `stages` and `layers` are updated. Folding a network
        again changes nothing.

        Raises:
            ValueError: the network has no block that can be folded.
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return {"c3", "c4", "c5"}: (B, C, H / stride, W / stride), NCHW, finest first.

        Args:
            images: (B, 3, H, W), normalized with `mean` and `std`, of any size. They are padded with zeros on the right
                and bottom to multiples of 32; in the shapes above, H and W are the padded size.
        """
        raise NotImplementedError
