"""Differences between two networks are those of the same detections; missing detections are counted."""

import pytest
import torch

from heads.base import BoxPrediction, ClassPrediction, EmbeddingPrediction
from heads.prediction_comparison import Differences, embeddings_of_labels

BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])


def boxes(
    offset: float = 0.0, labels: tuple[int, int] = (0, 1), scores: tuple[float, float] = (0.9, 0.5)
) -> BoxPrediction:
    return BoxPrediction(BOXES + offset, torch.tensor(scores), torch.tensor(labels))


def test_same_detections_in_another_order_have_no_differences() -> None:
    found = Differences()
    turned = BoxPrediction(BOXES.flip(0), torch.tensor([0.5, 0.9]), torch.tensor([1, 0]))
    found.add(boxes(), turned)
    assert (found.scores, found.boxes_px, found.num_detections, found.num_missing) == (0, 0, 2, 0)


def test_largest_difference_of_all_images_counts() -> None:
    found = Differences()
    found.add(boxes(), boxes(0.25, scores=(0.9, 0.4)))
    found.add(boxes(), boxes(0.125))
    assert found.boxes_px == 0.25
    assert found.scores == pytest.approx(0.1)


def test_detection_of_another_class_or_far_away_is_missing() -> None:
    found = Differences()
    found.add(boxes(), boxes(labels=(0, 0)))
    found.add(boxes(), boxes(5.0))
    found.add(boxes(), BoxPrediction(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)))
    assert (found.num_detections, found.num_missing, found.boxes_px) == (6, 5, 0)


def test_classes_and_embeddings_of_images_are_compared_by_number() -> None:
    found = Differences()
    found.add(ClassPrediction(torch.tensor([0.25, 0.75])), ClassPrediction(torch.tensor([0.5, 0.5])))
    found.add(EmbeddingPrediction(torch.tensor([1.0, 0.0])), EmbeddingPrediction(torch.tensor([0.5, 0.0])))
    assert (found.scores, found.boxes_px, found.embeddings) == (0.25, None, 0.5)


def test_labeled_box_has_the_embedding_of_the_detection_that_overlaps_it_most() -> None:
    embeddings = EmbeddingPrediction(torch.eye(2))
    labeled = torch.tensor([[21.0, 20, 30, 30], [0, 0, 10, 9], [50, 50, 60, 60]])
    of_labels = embeddings_of_labels(embeddings, BOXES, labeled)
    assert of_labels.embeddings.tolist() == [[0, 1], [1, 0], [0, 0]]


def test_without_detections_or_labels_embeddings_are_zeros() -> None:
    none = EmbeddingPrediction(torch.zeros(0, 2))
    assert embeddings_of_labels(none, torch.zeros(0, 4), BOXES).embeddings.tolist() == [[0, 0], [0, 0]]
    assert embeddings_of_labels(EmbeddingPrediction(torch.eye(2)), BOXES, torch.zeros(0, 4)).embeddings.shape == (0, 2)
