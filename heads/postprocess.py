"""Selection of detections from the scores of one image.

Legend: N anchors or locations of all levels, K classes, M candidates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from heads.base import BoxPrediction


def select_candidates(
    scores_NK: Tensor, level_lengths: Sequence[int], *, score_threshold: float, per_level: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores, rows and classes (M,) of the candidates of one image, best first; ties by row, then class.

    Candidates have a score above the threshold and are among the best `per_level` of their level. The first
    `level_lengths[0]` rows are the first level, and so on; the lengths add up to N.
    """
    num_classes = scores_NK.shape[1]
    flat = scores_NK.flatten()
    kept = (flat > score_threshold).nonzero().squeeze(1)
    if len(kept) > per_level:
        ends = torch.tensor(level_lengths).cumsum(0).mul(num_classes)[:-1]
        levels = kept.tensor_split(torch.searchsorted(kept, ends.to(kept.device)).cpu())
        kept = torch.cat([level[_best(flat[level], per_level)] for level in levels]).sort().values
    kept = kept[_best(flat[kept], len(kept))]
    return flat[kept], kept // num_classes, kept % num_classes


def suppress(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, size_hw: tuple[int, int], *, nms_iou: float, max_detections: int
) -> BoxPrediction:
    """Return the detections among candidates (M,), which are sorted best first.

    Boxes are clipped to the image, and boxes without area dropped. Greedy non-maximum suppression within each class
    follows; the best `max_detections` are returned.
    """
    boxes = clip_boxes_to_image(boxes_xyxy, size_hw)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    boxes, scores, labels = boxes[has_area], scores[has_area], labels[has_area]
    # The order of ties in batched_nms is not documented; sorting restores the candidates' order.
    kept = batched_nms(boxes, scores, labels, nms_iou).sort().values[:max_detections]
    return BoxPrediction(boxes[kept], scores[kept], labels[kept])


def _best(scores: Tensor, limit: int) -> Tensor:
    """Return the positions of the best `limit` scores, best first, ties by position."""
    if limit >= len(scores):
        return scores.sort(descending=True, stable=True).indices
    # topk does not define which of several equal scores it returns; sorting all scores would be slow.
    at_least = (scores >= scores.topk(limit, sorted=False).values.min()).nonzero().squeeze(1)
    return at_least[scores[at_least].sort(descending=True, stable=True).indices[:limit]]
