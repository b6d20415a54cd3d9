"""Assignment of boxes to anchors or locations.

Legend: B images, M boxes per image after padding, N anchors or locations of all levels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from heads.base import BoxTarget
from heads.losses import IGNORED, NEGATIVE

PAIRS_AT_ONCE = 2**25
"""Maximum number of box-anchor pairs that are matched in one step: 128 MiB for each intermediate result, whatever the
number of images and of boxes per image."""


@dataclass
class PaddedTargets:
    """Boxes of a batch as one tensor; M is at least 1.

    Attributes:
        boxes_xyxy: (B, M, 4), zeros where padded.
        labels: (B, M) int64.
        is_object: (B, M) bool; False for crowds and padding.
        is_crowd: (B, M) bool.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    is_object: Tensor
    is_crowd: Tensor

    def of_images(self, images: slice) -> "PaddedTargets":
        """Return the targets of a slice of the images."""
        return PaddedTargets(
            self.boxes_xyxy[images], self.labels[images], self.is_object[images], self.is_crowd[images]
        )

    def parts(self, num_columns: int) -> Iterator[tuple[int, "PaddedTargets"]]:
        """Yield the targets in parts of as many boxes per image as can be matched in one step, each with the index of
        its first box.

        Args:
            num_columns: number of anchors or locations.
        """
        images, most = self.labels.shape
        step = max(1, PAIRS_AT_ONCE // (images * num_columns))
        for start in range(0, most, step):
            part = slice(start, start + step)
            yield (
                start,
                PaddedTargets(
                    self.boxes_xyxy[:, part], self.labels[:, part], self.is_object[:, part], self.is_crowd[:, part]
                ),
            )


class _Best:
    """The highest value of each column, and the first box that reaches it, over the parts of the boxes so far.

    Attributes:
        values: (B, N).
        boxes: (B, N) int64.
    """

    values: Tensor
    boxes: Tensor

    def add(self, first: int, values_BMN: Tensor) -> None:
        """Add the values of M more boxes, of which the first has the index `first`."""
        values, boxes = values_BMN.max(dim=1)
        if first == 0:
            self.values, self.boxes = values, boxes
            return
        is_higher = values > self.values
        self.values = torch.where(is_higher, values, self.values)
        self.boxes = torch.where(is_higher, boxes + first, self.boxes)


def pad_targets(targets: Sequence[BoxTarget]) -> PaddedTargets:
    """Return the targets of B images as padded tensors, which keep the order of the boxes."""
    boxes = pad_sequence([target.boxes_xyxy.float() for target in targets], batch_first=True)
    labels = pad_sequence([target.labels for target in targets], batch_first=True)
    is_crowd = pad_sequence([target.is_crowd for target in targets], batch_first=True)
    if boxes.shape[1] == 0:
        boxes, labels, is_crowd = (
            tensor.new_zeros((len(targets), 1, *tensor.shape[2:])) for tensor in (boxes, labels, is_crowd)
        )
    counts = torch.tensor([len(target.labels) for target in targets], device=boxes.device)
    is_real = torch.arange(boxes.shape[1], device=boxes.device) < counts[:, None]
    return PaddedTargets(boxes, labels, is_real & ~is_crowd, is_real & is_crowd)


def gather_labels(matched_BN: Tensor, targets: PaddedTargets) -> Tensor:
    """Return the class (B, N) of each match; `NEGATIVE` and `IGNORED` stay unchanged."""
    labels = targets.labels.gather(1, matched_BN.clamp(min=0))
    return torch.where(matched_BN >= 0, labels, matched_BN)


def match_anchors(
    anchors_xyxy: Tensor,
    targets: PaddedTargets,
    *,
    positive_iou: float,
    negative_iou: float,
    crowd_iof: float,
    keep_best: bool = True,
) -> Tensor:
    """Return for each anchor the index of its box, `NEGATIVE` or `IGNORED`: (B, N) int64.

    An anchor takes the box that it overlaps most if their IoU is at least `positive_iou`, is negative if all IoUs are
    below `negative_iou`, and is ignored in between (Lin et al. 2017, arXiv 1708.02002, section 4). With `keep_best`,
    each box that overlaps any anchor also gets its best anchor, or all anchors that tie for the best; an anchor that is
    the best for several boxes goes to the one that it overlaps most. In this step torchvision assigns the anchor to the
    anchor's own best box instead, which can leave a box without an anchor. An anchor without a box is ignored if at
    least `crowd_iof` of its area is inside one crowd region.
    """
    anchor_areas = (anchors_xyxy[:, 2:] - anchors_xyxy[:, :2]).prod(dim=1)

    def match(some: PaddedTargets) -> Tensor:
        best, own = _Best(), _Best()
        is_in_crowd = torch.zeros((), dtype=torch.bool, device=anchors_xyxy.device)
        for first, part in some.parts(len(anchors_xyxy)):
            inter_BMN, union_BMN = pairwise_overlaps(part.boxes_xyxy, anchors_xyxy)
            iou_BMN = torch.div(inter_BMN, union_BMN, out=union_BMN).masked_fill_(~part.is_object[..., None], 0.0)
            best.add(first, iou_BMN)
            if bool(part.is_crowd.any()):
                in_crowd_BMN = inter_BMN.div_(anchor_areas).masked_fill_(~part.is_crowd[..., None], 0.0)
                is_in_crowd = is_in_crowd | (in_crowd_BMN.amax(dim=1) >= crowd_iof)
            if keep_best:
                iou_of_best = iou_BMN.amax(dim=2, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
                own.add(first, iou_BMN.masked_fill_(iou_BMN < iou_of_best, 0.0))
            del inter_BMN, union_BMN, iou_BMN  # or they would exist beside those of the next part
        matched = best.boxes.masked_fill(best.values < positive_iou, IGNORED)
        matched.masked_fill_(best.values < negative_iou, NEGATIVE)
        matched.masked_fill_(is_in_crowd & (matched < 0), IGNORED)
        return torch.where(own.values > 0, own.boxes, matched) if keep_best else matched

    return _by_images(match, targets, len(anchors_xyxy))


def match_locations(points_xy: Tensor, radii_px: Tensor, ranges_px: Tensor, targets: PaddedTargets) -> Tensor:
    """Return for each location the index of its box, `NEGATIVE` or `IGNORED`: (B, N) int64.

    A location can take a box if three conditions hold: it is inside the box; along both axes it is less than its
    radius from the box's center (center sampling); and the distance to the box's farthest edge is greater than the
    lower and at most the upper end of its range. If it can take several boxes, it takes the smallest (Tian et al.
    2019, arXiv 1904.01355, section 3.2; center sampling as in the authors' later release). A location without a box is
    ignored if it is inside a crowd region.

    Args:
        points_xy: (N, 2).
        radii_px: (N,).
        ranges_px: (N, 2), lower and upper end.
        targets: the boxes of B images.
    """
    xs, ys = points_xy.unbind(1)
    lower, upper = ranges_px.unbind(1)

    def match(some: PaddedTargets) -> Tensor:
        # The smallest box is the one with the highest negative area.
        best = _Best()
        is_in_crowd = torch.zeros((), dtype=torch.bool, device=points_xy.device)
        for first, part in some.parts(len(points_xy)):
            x1, y1, x2, y2 = part.boxes_xyxy[..., None].unbind(2)
            left, top, right, bottom = xs - x1, ys - y1, x2 - xs, y2 - ys
            is_inside = torch.minimum(torch.minimum(left, right), torch.minimum(top, bottom)) > 0
            farthest = torch.maximum(torch.maximum(left, right), torch.maximum(top, bottom))
            # The distance of the centers along an axis is half the difference of the distances to both edges.
            off_center = torch.maximum(left.sub_(right).abs_(), top.sub_(bottom).abs_()).div_(2)
            may_take = is_inside & (off_center < radii_px) & (farthest > lower) & (farthest <= upper)
            negative_area = ((x1 - x2) * (y2 - y1)).masked_fill(~part.is_object[..., None], -torch.inf)
            best.add(first, torch.where(may_take, negative_area, -torch.inf))
            is_in_crowd = is_in_crowd | (is_inside & part.is_crowd[..., None]).any(dim=1)
            del left, top, right, bottom, is_inside, farthest, off_center, may_take  # as above
        unmatched = torch.where(is_in_crowd, IGNORED, NEGATIVE)
        return torch.where(best.values > -torch.inf, best.boxes, unmatched)

    return _by_images(match, targets, len(points_xy))


def _by_images(match: Callable[[PaddedTargets], Tensor], targets: PaddedTargets, num_columns: int) -> Tensor:
    batch, most = targets.labels.shape
    step = max(1, PAIRS_AT_ONCE // (most * num_columns))
    return torch.cat([match(targets.of_images(slice(start, start + step))) for start in range(0, batch, step)])


def pairwise_overlaps(boxes_xyxy: Tensor, anchors_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Return the areas of intersection and of union of boxes (..., M, 4) and anchors (N, 4): (..., M, N) each.

    The computation handles one coordinate at a time, in place. This takes a quarter of the time of torchvision's
    `box_iou`, which handles pairs of coordinates: 5 ms instead of 20 ms for 4 x 13 boxes and 15,120 anchors (one
    thread, AMD EPYC Zen 5).
    """
    x1, y1, x2, y2 = boxes_xyxy[..., None].unbind(-2)
    ax1, ay1, ax2, ay2 = anchors_xyxy.unbind(1)
    inter = torch.minimum(x2, ax2).sub_(torch.maximum(x1, ax1)).clamp_(min=0)
    inter.mul_(torch.minimum(y2, ay2).sub_(torch.maximum(y1, ay1)).clamp_(min=0))
    areas = (x2 - x1) * (y2 - y1)
    return inter, (areas + (ax2 - ax1) * (ay2 - ay1)).sub_(inter)
