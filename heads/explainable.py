"""The part of the contract of heads that explanations of single predictions need.

A prediction is chosen once, on the image as it is. Then its score is followed on changed versions of the image, at the
place that gave the prediction: a cell, a proposal or a box. Candidates, NMS and the order of predictions play no role,
so that the followed number is a smooth function of the image.
Legend: B versions of one image, R rows, K classes, D embedding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

SAME_BOX_PX = 0.01
"""Boxes whose edges differ by less than this are the same box, computed twice."""
_NEAREST_TO_ONE = -1e-6
"""Largest logarithm of a score whose odds are finite in float32."""


@dataclass(frozen=True)
class ChosenPrediction:
    """A prediction of one image.

    Attributes:
        box_xyxy: (4,) in pixels of the network's input, as `decode` returned it; None: it is about the whole image.
        found_label: position of the class that it was predicted with; None: it has no class.
        label: position of the class whose score is followed; None: it has no class.
        reference: prediction of the same head for another image, for heads that compare images.
    """

    box_xyxy: Tensor | None = None
    found_label: int | None = None
    label: int | None = None
    reference: Any = None


@dataclass(frozen=True)
class FollowedScore:
    """A number of one prediction, as a function of raw outputs.

    Attributes:
        of: returns (B,) float32 of raw outputs of B versions of the image.
        quantity: `log_odds` of the score, log(score / (1 - score)), or the cosine `similarity` of embeddings.
        level: the feature level that it is computed from, of those that `forward` gets.
        is_local: whether it is computed from some cells of the level, and not from the whole map.
        is_at_maximum: whether it is at its maximum for the image itself, so that its gradient vanishes there.
    """

    of: Callable[[Any], Tensor]
    quantity: Literal["log_odds", "similarity"]
    level: str
    is_local: bool
    is_at_maximum: bool = False


class ExplainableHead(nn.Module):
    """The method of a head that explanations call. A head that does not implement it cannot be explained."""

    def follow(self, raw: Any, size_hw: tuple[int, int], chosen: ChosenPrediction) -> FollowedScore:
        """Return the score of a prediction as a function of raw outputs.

        Args:
            raw: outputs of `forward` for the image alone.
            size_hw: its size before padding.
            chosen: the prediction.

        Raises:
            NotImplementedError: the head cannot be explained.
            ValueError: the score is the same for all images.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be explained; implement follow, see docs/adding.md")


def nearest_row(boxes_R4: Tensor, scores_R: Tensor, box_xyxy: Tensor) -> int:
    """Return the row that gave a box: the one with the nearest edges; of equal boxes that with the highest score."""
    distances = (boxes_R4 - box_xyxy).abs().amax(dim=1)
    is_same = distances <= distances.min() + SAME_BOX_PX
    return int(torch.where(is_same, scores_R, -torch.inf).argmax())


def exclusive_log_odds(logits_BK: Tensor, label: int) -> Tensor:
    """Return the log-odds (B,) of the softmax of a class: its logit minus those of all others, as one.

    Raises:
        ValueError: the task has one class.
    """
    logits = logits_BK.float()
    if logits.shape[1] < 2:
        raise ValueError("the task has one class, whose score is always 1")
    others = torch.cat((logits[:, :label], logits[:, label + 1 :]), dim=1)
    return logits[:, label] - others.logsumexp(dim=1)


def log_odds_of_mean(logits_B: Tensor, other_logits_B: Tensor) -> Tensor:
    """Return the log-odds (B,) of the geometric mean of two sigmoids, without rounding scores near 0 and 1."""
    logs = (functional.logsigmoid(logits_B.float()) + functional.logsigmoid(other_logits_B.float())) / 2
    logs = logs.clamp(max=_NEAREST_TO_ONE)
    return logs - (-torch.expm1(logs)).log()
