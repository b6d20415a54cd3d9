"""The images of a split that are worth a look: those with the worst predictions, and typical ones."""

from collections.abc import Mapping, Sequence

import torch
from torchvision.ops import box_iou

MIN_IOU = 0.5

Boxes = Sequence[Sequence[float]]


def image_f1(
    true_boxes_xyxy: Boxes,
    true_labels: Sequence[str],
    boxes_xyxy: Boxes,
    labels: Sequence[str],
    scores: Sequence[float],
) -> float:
    """Return the F1 score of the detections of one image; 1 if nothing is there and nothing is found.

    From the highest score down, a detection matches the free box of its label with the largest IoU, if that is at
    least 0.5.
    """
    if not true_boxes_xyxy and not boxes_xyxy:
        return 1.0
    if not true_boxes_xyxy or not boxes_xyxy:
        return 0.0
    overlaps = box_iou(torch.tensor(boxes_xyxy).float(), torch.tensor(true_boxes_xyxy).float()).tolist()
    free = set(range(len(true_boxes_xyxy)))
    for found in sorted(range(len(scores)), key=lambda j: (-scores[j], j)):
        candidates = [true for true in free if true_labels[true] == labels[found] and overlaps[found][true] >= MIN_IOU]
        if candidates:
            free.remove(max(candidates, key=lambda true: (overlaps[found][true], -true)))
    matched = len(true_boxes_xyxy) - len(free)
    return 2 * matched / (len(true_boxes_xyxy) + len(boxes_xyxy))


def choose_samples(f1_scores: Mapping[int, float], count: int) -> list[tuple[str, int]]:
    """Return `worst` or `typical` and the image ids of at most `count` images, the worst first.

    Half of them have the lowest F1 scores, the others are those nearest to the median. Ties are broken by id.
    """
    order = sorted(f1_scores, key=lambda image_id: (f1_scores[image_id], image_id))
    worst, others = order[: (count + 1) // 2], order[(count + 1) // 2 :]
    if not others:
        return [("worst", image_id) for image_id in worst]
    median = f1_scores[order[len(order) // 2]]
    typical = sorted(others, key=lambda image_id: (abs(f1_scores[image_id] - median), image_id))[: count // 2]
    return [*(("worst", image_id) for image_id in worst), *(("typical", image_id) for image_id in typical)]
