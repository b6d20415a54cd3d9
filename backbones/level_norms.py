"""Norms for the levels that an architecture outputs without one.

The maps of some networks have a scale that grows with depth: those that do not normalize their residual sums (ConvNeXt,
Swin, pre-activation ResNets), that concatenate raw convolutions (DenseNet), or that have no norms at all (VGG,
AlexNet). C5 of ResNetV2-50 has a standard deviation of 20 at random initialization. A newly initialized head or pyramid
needs normalized maps, as in the detectors of Swin and ViT (Liu et al. 2021, arXiv 2103.14030).

Unnormalized maps are detected in the autograd graph, without a list of names. A map is normalized if a backward walk
from it, through activations, pooling, reshapes and gates, reaches a norm before any layer with weights. A residual sum
needs one normalized summand (ResNet, EfficientNet); concatenated maps must all be normalized.

The norm is a LayerNorm over the channels of each cell, whatever norm the network itself uses: it has no running
statistics, so it is correct from the first image on, in frozen stages and in batches of one.
"""

from typing import Any

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

_LAYERS = ("Convolution", "Addmm", "Mm", "Bmm", "Linear", "ScaledDotProduct")


def level_norm(feature: Tensor) -> nn.Module:
    """Return the norm that a map (B, C, H, W) needs: the identity if its autograd graph shows that it is normalized."""
    return nn.Identity() if is_normalized(feature) else LayerNorm2d(feature.shape[1])


def is_normalized(feature: Tensor) -> bool:
    """Return True if a backward walk from `feature` reaches a norm before any layer with weights."""
    verdicts: dict[Any, bool] = {}
    pending: list[Any] = [feature.grad_fn]
    while pending:
        node = pending[-1]
        parents = [] if _decides(node) else [parent for parent, _ in node.next_functions if parent is not None]
        unknown = [parent for parent in parents if parent not in verdicts]
        if unknown:
            pending.extend(unknown)
            continue
        verdicts[pending.pop()] = _verdict(node, [verdicts[parent] for parent in parents])
    return verdicts[feature.grad_fn]


def _decides(node: Any) -> bool:
    return "Norm" in node.name() or node.name().startswith(_LAYERS) or hasattr(node, "variable")


def _verdict(node: Any, parents: list[bool]) -> bool:
    if _decides(node):
        return "Norm" in node.name()
    return bool(parents) and (all(parents) if node.name().startswith("Cat") else any(parents))
