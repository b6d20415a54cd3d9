"""F1 scores of single images, and the images that are chosen by them."""

import pytest

from pipelines.evaluation.sample_choice import choose_samples, image_f1

BOX, SAME, FAR = [0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        ([], [], 1.0),
        ([(BOX, "a")], [], 0.0),
        ([], [(BOX, "a", 0.9)], 0.0),
        ([(BOX, "a")], [(SAME, "a", 0.9)], 1.0),
        ([(BOX, "a")], [(SAME, "b", 0.9)], 0.0),
        ([(BOX, "a")], [(SAME, "a", 0.9), (BOX, "a", 0.8)], 2 / 3),
        ([(BOX, "a"), (FAR, "a")], [(BOX, "a", 0.9), (FAR, "a", 0.4)], 1.0),
        ([(BOX, "a"), (FAR, "b")], [(BOX, "a", 0.9)], 2 / 3),
    ],
)
def test_f1_counts_each_box_once_with_its_label(truth, found, expected):
    boxes, labels = [box for box, _ in truth], [label for _, label in truth]
    f1 = image_f1(boxes, labels, *([row[column] for row in found] for column in range(3)))
    assert f1 == pytest.approx(expected)


def test_half_of_the_samples_are_the_worst_and_the_others_are_near_the_median():
    scores = {1: 0.9, 2: 0.1, 3: 0.5, 4: 0.1, 5: 0.6, 6: 1.0, 7: 0.5}
    assert choose_samples(scores, 4) == [("worst", 2), ("worst", 4), ("typical", 3), ("typical", 7)]
    assert choose_samples({5: 0.3}, 4) == [("worst", 5)]
    assert choose_samples({}, 4) == []
