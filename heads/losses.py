"""Losses of dense detectors, computed in float32 whatever the precision of the network.

Smooth-L1 is from torch, GIoU from torchvision; the focal loss is implemented here to save time and memory.

Legend: N rows (anchors or locations), K classes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

NEGATIVE = -1
"""Label of a row without an object: all its classes are negatives."""
IGNORED = -2
"""Label of a row that the loss skips."""
SMOOTH_L1_BETA = 1 / 9
"""From Detectron's RetinaNet."""


class _SigmoidFocalLoss(torch.autograd.Function):
    """Focal loss that computes its gradient in the forward pass and saves only that for the backward pass.

    Every element is first computed as a negative; then the few positives and the ignored rows are overwritten.
    """

    @staticmethod
    def forward(ctx: Any, logits_NK: Tensor, labels_N: Tensor, alpha: float, gamma: float) -> Tensor:
        logits = logits_NK.float()
        scores = logits.sigmoid()
        losses = functional.softplus(logits)
        factor = scores.pow(gamma).mul_(1 - alpha)
        wants_gradient = ctx.needs_input_grad[0]
        # d/dx (1-a) p^g softplus(x) = (1-a) p^g (g (1-p) softplus(x) + p)
        gradient = (gamma * losses).mul_(1 - scores).add_(scores).mul_(factor) if wants_gradient else None
        losses.mul_(factor)

        rows = (labels_N >= 0).nonzero().squeeze(1)
        columns = labels_N[rows]
        misses = 1 - scores[rows, columns]
        positive_losses = functional.softplus(-logits[rows, columns])
        positive_factor = alpha * misses.pow(gamma)
        losses[rows, columns] = positive_factor * positive_losses
        ignored = (labels_N == IGNORED).nonzero().squeeze(1)
        losses[ignored] = 0.0
        if gradient is not None:
            gradient[rows, columns] = -positive_factor * (gamma * (1 - misses) * positive_losses + misses)
            gradient[ignored] = 0.0
            ctx.save_for_backward(gradient.to(logits_NK.dtype))
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None, None


def sigmoid_focal_loss(logits_NK: Tensor, labels_N: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the focal loss, summed over all elements, as a float32 scalar.

    Lin et al. 2017, arXiv 1708.02002, equation 5, one sigmoid per class:
    alpha (1 - p)^gamma (-log p) for a row's own class, (1 - alpha) p^gamma (-log(1 - p)) for the others.

    Args:
        logits_NK: (N, K), any float type; computed in float32, the gradient has the type of the logits.
        labels_N: (N,) int64: a class in 0..K-1, `NEGATIVE`, or `IGNORED`.
    """
    loss: Tensor = _SigmoidFocalLoss.apply(logits_NK, labels_N, alpha, gamma)
    return loss


def smooth_l1_loss(deltas: Tensor, target_deltas: Tensor, *, beta: float = SMOOTH_L1_BETA) -> Tensor:
    """Return the smooth-L1 loss of each element in float32: quadratic below `beta`, linear above.

    Girshick 2015, arXiv 1504.08083, equation 3. With a `beta` of 0 it is the L1 loss, which torchvision's RetinaNet
    uses.
    """
    return functional.smooth_l1_loss(deltas.float(), target_deltas, beta=beta, reduction="none")
