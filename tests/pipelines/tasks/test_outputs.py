"""Conversions of network outputs to original pixels."""

import numpy as np
import torch

from heads.base import BoxPrediction, ClassPrediction, EmbeddingPrediction
from pipelines.data.loading.sample import ImageInfo
from pipelines.tasks.classification.tensors.class_scores import ClassScores
from pipelines.tasks.detection.tensors.detections import Detections
from pipelines.tasks.embedding.tensors.embeddings import Embeddings

HALF = ImageInfo(7, "7.png", "a", (40, 60), (20, 30), (0.5, 0.5))


def test_boxes_are_mapped_to_the_original_image_and_clipped_to_it() -> None:
    prediction = BoxPrediction(torch.tensor([[1.0, 2, 3, 4], [20, 10, 40, 30]]), torch.rand(2), torch.tensor([1, 0]))
    found = Detections.from_network(prediction, HALF)
    assert found.boxes_xyxy.tolist() == [[2, 4, 6, 8], [40, 20, 60, 40]]
    assert found.labels.tolist() == [1, 0]


def test_scores_and_embeddings_become_float32_arrays() -> None:
    scores = ClassScores.from_network(ClassPrediction(torch.tensor([0.25, 0.75], dtype=torch.bfloat16)))
    assert (scores.scores.dtype, scores.scores.tolist()) == (np.float32, [0.25, 0.75])
    embedding = Embeddings.from_network(EmbeddingPrediction(torch.ones(4)))
    assert (embedding.embeddings.dtype, embedding.embeddings.shape) == (np.float32, (1, 4))
