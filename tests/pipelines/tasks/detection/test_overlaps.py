"""IoU by hand, and pairs of detections and boxes against plain loops."""

import numpy as np
import pytest

from pipelines.tasks.detection.scoring.overlaps import PAIRS_AT_A_TIME, box_iou, pairs_of_equal_keys


def test_iou_of_boxes_is_computed_by_hand():
    first = np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 0.0, 0.0]])
    second = np.array([[5.0, 0.0, 10.0, 10.0], [20.0, 20.0, 5.0, 5.0], [0.0, 0.0, 10.0, 10.0]])
    ious = box_iou(first[:, None], second[None])
    assert ious.tolist() == [[pytest.approx(1 / 3), 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_iou_with_a_crowd_is_the_covered_share_of_the_detection():
    found = np.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]])
    true = np.array([[5.0, 0.0, 100.0, 100.0], [5.0, 0.0, 100.0, 100.0]])
    assert box_iou(found, true, np.array([True, False])).tolist() == [0.5, pytest.approx(50 / 10050)]


@pytest.mark.parametrize("pairs_at_a_time", [PAIRS_AT_A_TIME, 7])
@pytest.mark.parametrize(("num_found", "num_true"), [(40, 30), (40, 0), (0, 30), (0, 0)])
def test_pairs_are_those_of_two_loops(num_found, num_true, pairs_at_a_time, monkeypatch):
    monkeypatch.setattr("pipelines.tasks.detection.scoring.overlaps.PAIRS_AT_A_TIME", pairs_at_a_time)
    rng = np.random.default_rng(0)
    found, true = rng.integers(0, 8, num_found), rng.integers(0, 8, num_true)
    parts = list(pairs_of_equal_keys(found, true))
    pairs = [pair for part in parts for pair in zip(*(side.tolist() for side in part), strict=True)]
    assert parts
    assert pairs == [(n, g) for n, key in enumerate(found) for g, own in enumerate(true) if key == own]
