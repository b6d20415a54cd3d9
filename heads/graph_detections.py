"""Selection of detections inside an exported graph, which has no loop over images.

The functions select what those of `heads.postprocess` select. The numbers of candidates are constants: an image or a
level with fewer of them has the score `MISSING` in the remaining places. Detections are rows of all images, since their
number differs between images.

Legend: B images, N rows of all levels, M candidates of an image, G groups of candidates, C classes of a group, R
detections of all images.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.ops import nms

from heads.base import BoxPrediction
from heads.detection_spec import DetectionHeadSpec

OUTPUTS = ("boxes", "scores", "labels", "images")
"""Names of the outputs of `rows_of_detections`."""
MISSING = -torch.inf
"""Score of a place without a candidate."""
LOWEST_SCORE = -1e30
"""Only candidates with a score above this are considered."""


def require_plain_nms(spec: DetectionHeadSpec) -> None:
    """Raise a ValueError if the settings ask for Soft-NMS, which has no operator in ONNX."""
    if spec.soft_nms_sigma is not None:
        raise ValueError(
            f"soft_nms_sigma: got {spec.soft_nms_sigma}; a graph with NMS inside cannot use Soft-NMS. Export with NMS "
            "outside; a model that embeds objects has NMS inside always, so train it with soft_nms_sigma: null"
        )


@torch.library.custom_op("pyramidion::non_max_suppression", mutates_args=())
def non_max_suppression(boxes_GM4: Tensor, scores_GCM: Tensor, max_iou: float, limit: int) -> Tensor:
    """Return the group, class and position (R, 3) int64 of the best candidates, at most `limit` of a class of a group.

    It is the operator `NonMaxSuppression` of ONNX. A candidate that overlaps a better one of its group and class by
    more than `max_iou` is dropped, and so are candidates with the score `MISSING`.
    """
    rows = []
    for group, (boxes_M4, scores_CM) in enumerate(zip(boxes_GM4, scores_GCM, strict=True)):
        for label, scores_M in enumerate(scores_CM):
            usable = (scores_M > LOWEST_SCORE).nonzero().squeeze(1)
            kept = usable[nms(boxes_M4[usable], scores_M[usable], max_iou)[:limit]]
            rows.append(torch.stack((torch.full_like(kept, group), torch.full_like(kept, label), kept), dim=1))
    return torch.cat(rows)


@non_max_suppression.register_fake
def _(boxes_GM4: Tensor, scores_GCM: Tensor, max_iou: float, limit: int) -> Tensor:
    return boxes_GM4.new_empty((torch.library.get_ctx().new_dynamic_size(), 3), dtype=torch.int64)


def best_of_levels(scores_BN: Tensor, level_lengths: Sequence[int], per_level: int) -> tuple[Tensor, Tensor]:
    """Return the best scores of every level, and their columns in `scores_BN`: both (B, M), `per_level` of each level.

    The first `level_lengths[0]` columns are the first level, and so on; the lengths add up to N. Candidates are best
    first within a level. Runtimes order equal scores by column.
    """
    padding = scores_BN.new_full((per_level,), MISSING).expand(scores_BN.shape[0], per_level)
    scores, columns, start = [], [], 0
    for length, level_BN in zip(level_lengths, torch.split(scores_BN, list(level_lengths), dim=1), strict=True):
        best, positions = torch.cat((level_BN, padding), dim=1).topk(per_level)
        scores.append(best)
        columns.append(start + positions.clamp(max=length - 1))
        start = start + length
    return torch.cat(scores, dim=1), torch.cat(columns, dim=1)


def take_rows(values_BND: Tensor, rows_BM: Tensor) -> Tensor:
    """Return the rows (B, M, D) of each image."""
    return values_BND.gather(1, rows_BM[..., None].expand(-1, -1, values_BND.shape[2]))


def clip_boxes(boxes_BM4: Tensor, image_sizes_hw: Tensor) -> Tensor:
    """Return boxes xyxy (B, M, 4) clipped to the images, whose sizes are (B, 2) int64."""
    limits = image_sizes_hw.flip(1).repeat(1, 2)[:, None].to(boxes_BM4.dtype)
    return torch.minimum(boxes_BM4.clamp(min=0), limits)


def drop_empty(scores_BM: Tensor, boxes_BM4: Tensor) -> Tensor:
    """Return the scores (B, M), `MISSING` for boxes without area."""
    has_area = (boxes_BM4[..., 2:] > boxes_BM4[..., :2]).all(dim=2)
    return torch.where(has_area, scores_BM, MISSING)


def by_class(scores_BM: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Return the scores (B, C, M), `MISSING` except for the class of each candidate, which is (B, M) or (M,)."""
    is_class = classes[..., None, :] == torch.arange(num_classes, device=classes.device)[:, None]
    return torch.where(is_class, scores_BM[:, None], MISSING)


def suppress_all(boxes_GM4: Tensor, scores_GCM: Tensor, *, nms_iou: float, limit: int) -> Tensor:
    """Return the scores (G, C, M) with `MISSING` for every candidate that is dropped, see `non_max_suppression`."""
    kept = non_max_suppression(boxes_GM4, scores_GCM, nms_iou, limit)
    num_classes, num_candidates = scores_GCM.shape[1:]
    places = (kept[:, 0] * num_classes + kept[:, 1]) * num_candidates + kept[:, 2]
    flat = scores_GCM.flatten()
    return torch.full_like(flat, MISSING).scatter(0, places, flat[places]).view(scores_GCM.shape)


def rows_of_detections(
    boxes_BM4: Tensor, scores_BM: Tensor, labels_BM: Tensor, *, max_detections: int
) -> dict[str, Tensor]:
    """Return the best candidates of each image, best first: `boxes` (R, 4), `scores` (R,), and int64 `labels` (R,) and
    `images` (R,), the number of the image. Images are in order."""
    best, columns = scores_BM.topk(min(max_detections, scores_BM.shape[1]))
    images, places = (best > LOWEST_SCORE).nonzero().unbind(1)
    columns = columns[images, places]
    return {
        "boxes": boxes_BM4[images, columns],
        "scores": best[images, places],
        "labels": labels_BM[images, columns],
        "images": images,
    }


def split_detections(outputs: Mapping[str, Tensor], image_sizes_hw: Sequence[tuple[int, int]]) -> list[BoxPrediction]:
    """Return one prediction per image, given the outputs of `rows_of_detections`."""
    rows = [(outputs["images"] == image).nonzero().squeeze(1) for image in range(len(image_sizes_hw))]
    return [BoxPrediction(outputs["boxes"][own], outputs["scores"][own], outputs["labels"][own]) for own in rows]
