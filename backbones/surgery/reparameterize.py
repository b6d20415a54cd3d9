"""Folding of branches into one convolution after training (Ding et al. 2021, RepVGG, arXiv 2101.03697)."""

import torch
from timm.layers.norm_act import freeze_batch_norm_2d, unfreeze_batch_norm_2d
from timm.utils.model import reparameterize_model
from torch import nn


def fold_branches(network: nn.Module) -> None:
    """Replace the branches of each foldable block of `network` with one convolution.

    With BatchNorm's running statistics the branches are linear, so in eval mode the output stays the same except for
    rounding. Folding a network again changes nothing.

    Raises:
        ValueError: the network has no block that can be folded.
    """
    blocks = [module for module in network.modules() if hasattr(module, "reparameterize")]
    if not blocks:
        raise ValueError("the network has no block that can be folded; remove surgery.reparameterize")
    with torch.device(next(network.parameters()).device):
        for block in blocks:
            # timm folds only plain norms, neither frozen nor synchronized ones.
            freeze_batch_norm_2d(block)  # type: ignore[no-untyped-call]
            unfreeze_batch_norm_2d(block)  # type: ignore[no-untyped-call]
        reparameterize_model(network, inplace=True)
