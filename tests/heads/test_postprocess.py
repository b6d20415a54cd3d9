import math

import pytest
import torch
from torchvision.ops import nms

from heads.detection_spec import FCOSHeadSpec
from heads.postprocess import select_candidates, select_detections, suppress, suppress_softly


def test_candidates_are_sorted_best_first_with_ties_in_their_order():
    scores = torch.tensor([[0.5, 0.9], [0.5, 0.1], [0.9, 0.5]])
    kept, rows, labels = select_candidates(scores, [3], score_threshold=0.2, per_level=10)
    assert kept.tolist() == torch.tensor([0.9, 0.9, 0.5, 0.5, 0.5]).tolist()
    assert list(zip(rows.tolist(), labels.tolist(), strict=True)) == [(0, 1), (2, 0), (0, 0), (1, 0), (2, 1)]


def test_score_equal_to_the_threshold_is_dropped():
    kept, _, _ = select_candidates(torch.tensor([[0.5], [0.75]]), [2], score_threshold=0.5, per_level=10)
    assert kept.tolist() == [0.75]


def test_each_level_keeps_its_best_candidates():
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.3], [0.2]])
    _, rows, _ = select_candidates(scores, [3, 2], score_threshold=0.0, per_level=2)
    assert rows.tolist() == [0, 1, 3, 4]
    _, rows, _ = select_candidates(scores, [3, 0, 2], score_threshold=0.0, per_level=1)
    assert rows.tolist() == [0, 3]


def test_first_of_many_equal_scores_are_kept():
    _, rows, _ = select_candidates(torch.full((1000, 1), 0.5), [1000], score_threshold=0.0, per_level=7)
    assert rows.tolist() == list(range(7))


def test_prediction_is_empty_without_a_score_above_the_threshold():
    scores, rows, labels = select_candidates(torch.zeros(4, 2), [4], score_threshold=0.0, per_level=2)
    prediction = suppress(torch.zeros(len(rows), 4), scores, labels, (10, 10), nms_iou=0.5, max_detections=5)
    assert prediction.boxes_xyxy.shape == (0, 4)
    assert prediction.scores.shape == prediction.labels.shape == (0,)


def test_overlapping_boxes_are_suppressed_within_their_class_only():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [40, 0, 50, 10]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 1, 0])
    kept = suppress(boxes, scores, labels, (50, 50), nms_iou=0.5, max_detections=10)
    assert kept.scores.tolist() == scores[[0, 2, 3]].tolist()
    assert kept.labels.tolist() == [0, 1, 0]


def test_boxes_are_clipped_and_boxes_outside_the_image_are_dropped():
    boxes = torch.tensor([[-5.0, -5, 30, 8], [25, 2, 40, 8]])
    kept = suppress(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), (10, 20), nms_iou=0.5, max_detections=10)
    assert kept.boxes_xyxy.tolist() == [[0, 0, 20, 8]]


def test_many_candidates_are_suppressed_within_each_class():
    torch.manual_seed(0)
    low = torch.rand(3000, 2) * 80
    boxes = torch.cat((low, low + torch.rand(3000, 2) * 20 + 1), dim=1).clamp(max=100)
    scores, labels = (
        torch.rand(3000).round(decimals=2).sort(descending=True, stable=True).values,
        torch.randint(3, (3000,)),
    )
    kept = suppress(boxes, scores, labels, (100, 100), nms_iou=0.4, max_detections=200)
    by_class = [(labels == k).nonzero().squeeze(1) for k in range(3)]
    expected = torch.cat([of_class[nms(boxes[of_class], scores[of_class], 0.4)] for of_class in by_class])
    expected = expected.sort().values[:200]
    assert len(expected) == 200
    assert kept.boxes_xyxy.tolist() == boxes[expected].tolist()
    assert kept.scores.tolist() == scores[expected].tolist()
    assert kept.labels.tolist() == labels[expected].tolist()


def test_soft_suppression_lowers_the_scores_of_overlapping_boxes_of_the_same_class():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 5], [40, 0, 50, 10]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 1, 0])
    kept = suppress_softly(boxes, scores, labels, (50, 50), sigma=0.5, max_detections=10)
    # The second box has an IoU of 0.5 with the first.
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7, 0.6, 0.8 * math.exp(-0.25 / 0.5)])
    assert kept.boxes_xyxy.tolist() == boxes[[0, 2, 3, 1]].tolist()
    assert kept.labels.tolist() == [0, 1, 0, 0]


def test_soft_suppression_equals_the_algorithm_of_the_paper():
    torch.manual_seed(0)
    low = torch.rand(200, 2) * 40
    boxes = torch.cat((low, low + torch.rand(200, 2) * 30 + 1), dim=1)
    scores, labels = torch.rand(200).sort(descending=True).values, torch.randint(3, (200,))
    found = suppress_softly(boxes, scores, labels, (100, 100), sigma=0.5, max_detections=60)
    expected = []
    candidates = list(zip(scores.tolist(), boxes.tolist(), labels.tolist(), strict=True))
    while len(expected) < 60:
        best = max(candidates, key=lambda candidate: candidate[0])
        candidates.remove(best)
        expected.append(best)
        candidates = [
            (score * math.exp(-(_iou(box, best[1]) ** 2) / 0.5) if label == best[2] else score, box, label)
            for score, box, label in candidates
        ]
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in expected], rel=1e-4)
    assert found.boxes_xyxy.tolist() == [box for _, box, _ in expected]
    assert found.labels.tolist() == [label for _, _, label in expected]


def test_detections_whose_lowered_score_is_at_most_the_threshold_are_dropped():
    spec = FCOSHeadSpec(head="fcos", soft_nms_sigma=0.1, score_threshold=0.2)
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [40, 0, 50, 10]])
    kept = select_detections(boxes, torch.tensor([0.9, 0.8, 0.3]), torch.tensor([0, 0, 0]), (50, 50), spec)
    assert kept.boxes_xyxy.tolist() == boxes[[0, 2]].tolist()


def test_soft_suppression_of_no_candidates_is_empty():
    none = torch.zeros(0)
    kept = suppress_softly(none.reshape(0, 4), none, none.long(), (10, 10), sigma=0.5, max_detections=5)
    assert kept.boxes_xyxy.shape == (0, 4)
    assert kept.scores.shape == kept.labels.shape == (0,)


def _iou(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)
