"""Selection of detections from the scores of one image.

Legend: N anchors or locations of all levels, K classes, M candidates.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from heads.base import BoxPrediction
from heads.detection_spec import DetectionHeadSpec


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


def select_detections(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, size_hw: tuple[int, int], spec: DetectionHeadSpec
) -> BoxPrediction:
    """Return the detections among candidates (M,), which are sorted best first, as the settings of the head ask."""
    limit = spec.max_detections
    if spec.soft_nms_sigma is None:
        return suppress(boxes_xyxy, scores, labels, size_hw, nms_iou=spec.nms_iou, max_detections=limit)
    found = suppress_softly(boxes_xyxy, scores, labels, size_hw, sigma=spec.soft_nms_sigma, max_detections=limit)
    kept = found.scores > spec.score_threshold
    return BoxPrediction(found.boxes_xyxy[kept], found.scores[kept], found.labels[kept])


def suppress(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, size_hw: tuple[int, int], *, nms_iou: float, max_detections: int
) -> BoxPrediction:
    """Return the detections among candidates (M,), see `find_survivors`."""
    boxes, kept = find_survivors(boxes_xyxy, scores, labels, size_hw, nms_iou=nms_iou, limit=max_detections)
    return BoxPrediction(boxes, scores[kept], labels[kept])


def suppress_softly(
    boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, size_hw: tuple[int, int], *, sigma: float, max_detections: int
) -> BoxPrediction:
    """Return the best candidates (M,), best first, whose scores are lowered where they overlap better ones.

    Gaussian Soft-NMS: Bodla, Singh, Chellappa, Davis 2017, "Soft-NMS: Improving Object Detection With One Line of
    Code", arXiv 1704.04503, equation 3. Each detection multiplies the scores of the other candidates of its class by
    exp(-IoU^2 / sigma). Boxes are clipped to the image, and boxes without area dropped. Ties go to the first candidate.
    """
    boxes, positions = _clip(boxes_xyxy, size_hw)
    groups, remaining = labels[positions], scores[positions].clone()
    kept, lowered = [], []
    for _ in range(min(max_detections, len(boxes))):
        best = remaining.argmax(dim=0, keepdim=True)
        kept.append(best)
        lowered.append(remaining[best])
        overlap = box_iou(boxes[best], boxes)[0] * (groups == groups[best])
        remaining = (remaining * torch.exp(-overlap.square() / sigma)).index_fill(0, best, -1.0)
    if not kept:
        return BoxPrediction(boxes, remaining, groups)
    rows = torch.cat(kept)
    return BoxPrediction(boxes[rows], torch.cat(lowered), groups[rows])


def find_survivors(
    boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, size_hw: tuple[int, int], *, nms_iou: float, limit: int
) -> tuple[Tensor, Tensor]:
    """Return the remaining boxes (P, 4) of candidates (M,), which are sorted best first, and their positions (P,).

    Boxes are clipped to the image, and boxes without area dropped. Greedy non-maximum suppression within each group,
    such as a class, follows; the best `limit` are returned.
    """
    boxes, positions = _clip(boxes_xyxy, size_hw)
    # The order of ties in batched_nms is not documented; sorting restores the candidates' order.
    kept = batched_nms(boxes, scores[positions], groups[positions], nms_iou).sort().values[:limit]
    return boxes[kept], positions[kept]


def _clip(boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the boxes (P, 4) that have area inside the image, clipped to it, and their positions (P,)."""
    boxes = clip_boxes_to_image(boxes_xyxy, size_hw)
    positions = (boxes[:, 2:] > boxes[:, :2]).all(dim=1).nonzero().squeeze(1)
    return boxes[positions], positions


def _best(scores: Tensor, limit: int) -> Tensor:
    """Return the positions of the best `limit` scores, best first, ties by position."""
    if limit >= len(scores):
        return scores.sort(descending=True, stable=True).indices
    # topk does not define which of several equal scores it returns; sorting all scores would be slow.
    at_least = (scores >= scores.topk(limit, sorted=False).values.min()).nonzero().squeeze(1)
    return at_least[scores[at_least].sort(descending=True, stable=True).indices[:limit]]
