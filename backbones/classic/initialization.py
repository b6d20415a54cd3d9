"""Random weights from which the networks of this folder train."""

from torch import nn


def initialize(network: nn.Module) -> None:
    """Draw convolutions from Kaiming's normal distribution for ReLU (He et al. 2015, arXiv 1502.01852), biases 0.

    With BatchNorm the scale of activations is settled, and that of gradients is kept (fan-out). Without any norm the
    scale of activations must be kept (fan-in): of images of unit variance, fan-out gives c4 of AlexNet a standard
    deviation of 0.03, and c5 of GoogLeNet one of 31, where the reductions of its branches multiply; fan-in gives 0.8
    and 0.9.
    """
    has_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if has_norm else "fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
