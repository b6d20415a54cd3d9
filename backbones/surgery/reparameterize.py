"""Branches that are folded into one convolution once training is over (Ding et al. 2021, RepVGG, arXiv 2101.03697)."""

import torch
from timm.layers.norm_act import freeze_batch_norm_2d, unfreeze_batch_norm_2d
from timm.utils.model import reparameterize_model
from torch import nn


def fold_branches(network: nn.Module) -> None:
    """Put one convolution in place of the branches of each block of `network` that can be folded.

    The branches are linear once BatchNorm takes its running statistics, so in eval mode the network gives what it gave,
    but for rounding. A network that is folded already stays as it is.

    Raises:
        ValueError: none of its blocks can be folded.
    """
    blocks = [module for module in network.modules() if hasattr(module, "reparameterize")]
    if not blocks:
        raise ValueError("none of its blocks can be folded; leave surgery.reparameterize out")
    with torch.device(next(network.parameters()).device):
        for block in blocks:
            # timm folds plain norms alone: no frozen ones, and none over several processes.
            freeze_batch_norm_2d(block)  # type: ignore[no-untyped-call]
            unfreeze_batch_norm_2d(block)  # type: ignore[no-untyped-call]
        reparameterize_model(network, inplace=True)
