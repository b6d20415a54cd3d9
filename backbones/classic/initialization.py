"""Random initialization of the networks in this folder."""

from torch import nn


def initialize(network: nn.Module) -> None:
    """Initialize convolutions with Kaiming's normal distribution for ReLU (He et al. 2015, arXiv 1502.01852), biases 0.

    With BatchNorm, which fixes the scale of activations, fan-out keeps the scale of gradients. Without any norm, fan-in
    is needed to keep the scale of activations: for images of unit variance, fan-out gives c4 of AlexNet a standard
    deviation of 0.03, and c5 of GoogLeNet, whose branches reduce channels, one of 31; fan-in gives 0.8 and 0.9.
    """
    has_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if has_norm else "fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
