"""Branches that are folded into one convolution once training is over (Ding et al. 2021, RepVGG, arXiv 2101.03697)."""

from timm.utils.model import reparameterize_model
from torch import nn


def fold_branches(network: nn.Module) -> None:
    """Put one convolution in place of the branches of each block of `network` that can be folded.

    The branches are linear once BatchNorm takes its running statistics, so in eval mode the network gives what it gave,
    but for rounding. A network that is folded already stays as it is.

    Raises:
        ValueError: none of its blocks can be folded.
    """
    if not any(hasattr(module, "reparameterize") for module in network.modules()):
        raise ValueError("none of its blocks can be folded; leave surgery.reparameterise out")
    reparameterize_model(network, inplace=True)
