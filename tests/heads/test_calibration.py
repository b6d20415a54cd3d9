"""Temperature scaling of predictions."""

import pytest
import torch

from heads.base import BoxPrediction, ClassPrediction, EmbeddingPrediction
from heads.calibration import calibrated


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_scores_are_those_of_divided_logits(temperature: float) -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, -8.0])
    exclusive = calibrated(ClassPrediction(logits.softmax(dim=0)), temperature)
    torch.testing.assert_close(exclusive.scores, (logits / temperature).softmax(dim=0))
    independent = calibrated(ClassPrediction(logits.sigmoid(), is_exclusive=False), temperature)
    torch.testing.assert_close(independent.scores, (logits / temperature).sigmoid())
    boxes = BoxPrediction(torch.rand(4, 4), logits.sigmoid(), torch.tensor([0, 1, 2, 0]))
    found = calibrated(boxes, temperature)
    torch.testing.assert_close(found.scores, (logits / temperature).sigmoid())
    assert found.scores.dtype == torch.float32
    assert torch.equal(found.boxes_xyxy, boxes.boxes_xyxy)
    assert torch.equal(found.labels, boxes.labels)


@pytest.mark.parametrize("temperature", [0.3, 0.9, 1.7, 6.0])
def test_order_of_scores_stays(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(5_000, generator=generator).sort(descending=True).values
    found = calibrated(BoxPrediction(torch.zeros(5_000, 4), scores, torch.zeros(5_000)), temperature).scores
    assert (found.diff() <= 0).all()
    shares = scores[:50] / scores[:50].sum()
    assert (calibrated(ClassPrediction(shares), temperature).scores.diff() <= 0).all()


def test_scores_of_0_and_1_stay_and_no_detection_is_no_problem() -> None:
    ends = calibrated(ClassPrediction(torch.tensor([0.0, 1.0, 0.5]), is_exclusive=False), 3.0)
    assert ends.scores.tolist() == [0.0, 1.0, 0.5]
    assert calibrated(ClassPrediction(torch.tensor([0.0, 1.0])), 3.0).scores.tolist() == [0.0, 1.0]
    nothing = BoxPrediction(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert calibrated(nothing, 3.0).scores.shape == (0,)


def test_predictions_without_scores_are_returned_as_they_are() -> None:
    prediction = EmbeddingPrediction(torch.rand(2, 3))
    assert calibrated(prediction, 2.0) is prediction
