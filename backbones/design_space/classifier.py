"""A design with its classifier, which papers include when they count parameters and multiply-accumulates."""

from torch import Tensor, nn

from backbones.design_space.layers import activation, chain, convolution, norm
from backbones.design_space.network import DesignNetwork
from backbones.spec.design import DesignSpec
from backbones.spec.design_plan import WIDTH_BASE, Convolution, scale_width

_MOBILE_WIDTH = 1280


class DesignClassifier(nn.Module):
    """A design, the mean over the last map, and a linear layer.

    | design | layers around the mean |
    |---|---|
    | post, concatenate | none |
    | pre | norm and activation before it (ResNetV2) |
    | convnext | norm after it (ConvNeXt) |
    | convnext without projection | 1x1 convolution to 1280 channels before it (MobileNetV2) |
    """

    def __init__(self, spec: DesignSpec, num_classes: int = 1000) -> None:
        super().__init__()
        self.network = DesignNetwork(spec)
        channels = spec.stages[-1].out_channels
        pool: dict[str, nn.Module] = {"pool": nn.AdaptiveAvgPool2d(1)}
        head = pool
        if spec.order == "pre" and spec.combination == "add":
            head = {"norm": norm(spec, channels), "act": activation(spec)} | pool
        elif spec.order == "convnext" and spec.projection:
            head = pool | {"norm": norm(spec, channels)}
        elif spec.order == "convnext":
            wide = scale_width(_MOBILE_WIDTH, WIDTH_BASE**spec.compound)
            widened = convolution(spec, Convolution(channels, wide), feeds_norm=True)
            head = {"conv": widened, "norm": norm(spec, wide), "act": activation(spec)} | pool
            channels = wide
        self.head = chain(head)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, 3, H, W)."""
        logits: Tensor = self.classifier(self.head(self.network(images)[-1]).flatten(1))
        return logits
