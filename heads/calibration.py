"""Temperature scaling of scores (Guo et al. 2017, arXiv 1706.04599, section 4.2).

Legend: K classes, N detections.
"""

from dataclasses import replace

from torch import Tensor

from heads.base import BoxPrediction, ClassPrediction, Prediction


def calibrated(prediction: Prediction, temperature: float) -> Prediction:
    """Return the prediction with the scores that its logits, divided by the temperature, give.

    Detections keep their boxes and their order, and scores that a head selects by are those before. The scores of one
    image keep their order too. Predictions without scores are returned as they are.

    Args:
        prediction: of one image.
        temperature: positive; above 1, scores move away from 0 and 1.
    """
    if isinstance(prediction, ClassPrediction) and prediction.is_exclusive:
        return replace(prediction, scores=_exclusive(prediction.scores, temperature))
    if isinstance(prediction, ClassPrediction | BoxPrediction):
        return replace(prediction, scores=_independent(prediction.scores, temperature))
    return prediction


def _independent(scores: Tensor, temperature: float) -> Tensor:
    """Return sigmoid(logit / temperature) of scores in [0, 1]; 0 and 1 stay. Close scores differ in float64 only."""
    exact = scores.double()
    return ((exact.log() - (-exact).log1p()) / temperature).sigmoid().to(scores.dtype)


def _exclusive(scores_K: Tensor, temperature: float) -> Tensor:
    """Return softmax(logits / temperature), given the softmax of the logits: its logarithm differs from the logits by a
    constant."""
    return (scores_K.double().log() / temperature).softmax(dim=0).to(scores_K.dtype)
