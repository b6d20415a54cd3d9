"""Boxes with names and colors are drawn on images."""

import numpy as np
import torch
from PIL import Image

from pipelines.base.pictures import MIN_SHOWN_SCORE, class_color, draw_boxes, picture_name


def test_frames_have_the_color_of_their_class_and_follow_the_boxes() -> None:
    gray = Image.new("L", (320, 240), 128)
    boxes = torch.tensor([[40.0, 60.0, 140.0, 160.0], [200.0, 100.0, 300.0, 200.0]])
    picture = np.asarray(draw_boxes(gray, boxes, ["b", "a"], [0.5, 0.75], classes=["a", "b"]))
    assert picture.shape == (240, 320, 3)
    assert tuple(picture[110, 40]) == class_color(1)
    assert tuple(picture[200, 250]) == class_color(0)
    assert tuple(picture[110, 90]) == (128, 128, 128)
    assert np.asarray(gray).max() == 128


def test_detections_with_low_scores_are_not_drawn() -> None:
    image = Image.new("RGB", (320, 240), (1, 2, 3))
    boxes = [[40.0, 60.0, 140.0, 160.0], [200.0, 100.0, 300.0, 200.0]]
    both = draw_boxes(image, boxes, ["a", "a"], [0.9, MIN_SHOWN_SCORE])
    first = draw_boxes(image, boxes, ["a", "a"], [0.9, MIN_SHOWN_SCORE - 0.01])
    assert first.tobytes() == draw_boxes(image, boxes[:1], ["a"], [0.9]).tobytes() != both.tobytes()


def test_picture_without_boxes_is_unchanged() -> None:
    image = Image.new("RGB", (50, 40), (1, 2, 3))
    assert draw_boxes(image, [], []).tobytes() == image.tobytes()


def test_names_at_the_border_stay_inside_the_picture() -> None:
    corner = [[0.0, 0.0, 9.0, 9.0], [311.0, 231.0, 320.0, 240.0]]
    plain = draw_boxes(Image.new("RGB", (320, 240)), corner, ["", ""])
    named = draw_boxes(Image.new("RGB", (320, 240)), corner, ["platelets", "platelets"])
    changed = np.argwhere((np.asarray(plain) != np.asarray(named)).any(axis=2))
    assert len(changed) > 2 * 200
    left_half = changed[changed[:, 1] < 160]
    assert np.ptp(left_half[:, 1]) > 30
    assert abs(np.ptp(left_half[:, 1]) - np.ptp(changed[changed[:, 1] >= 160][:, 1])) < 12


def test_neighboring_classes_differ_in_color() -> None:
    colors = np.array([class_color(position) for position in range(12)]).astype(int)
    distances = np.abs(colors[:, None] - colors[None]).sum(axis=2) + 1000 * np.eye(12, dtype=int)
    assert distances.min() > 60


def test_name_of_a_picture_is_one_line_of_text() -> None:
    assert picture_name("0", "a/b\nc\x1b[2J é.jpg") == "0_b_c_[2J é.png"
