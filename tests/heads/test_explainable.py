"""The score of a prediction is followed at the place that gave the prediction, as a smooth function of raw outputs."""

import pytest
import torch

from heads.base import EmbeddingPrediction
from heads.explainable import ChosenPrediction, ExplainableHead, exclusive_log_odds, log_odds_of_mean
from tests.heads.cases import CASES, DETECTORS, EMBEDDINGS, SIZE, trained_head_of

BOX = torch.tensor([10.0, 10, 90, 60])


def followed_scores(case, head, raw):
    """Yield the followed score of some predictions for an image, each with the score that `decode` gave it."""
    if case in EMBEDDINGS:
        yield head.follow(raw, SIZE, ChosenPrediction(BOX if head.needs_boxes else None)), 1.0
        return
    (found,) = head.decode(raw, [SIZE])
    for row in range(0, len(found.scores), max(1, len(found.scores) // 4)):
        label = int(found.labels[row]) if case in DETECTORS else row
        chosen = ChosenPrediction(found.boxes_xyxy[row] if case in DETECTORS else None, label, label)
        yield head.follow(raw, SIZE, chosen), float(found.scores[row])


@pytest.mark.parametrize("case", CASES)
def test_followed_score_of_the_image_itself_is_the_score_of_the_prediction(case, level_specs, make_features):
    head = trained_head_of(case, level_specs)
    with torch.no_grad():
        raw = head(make_features(1))
        scores = list(followed_scores(case, head, raw))
        twice = head({level: torch.cat((own, own)) for level, own in make_features(1).items()})
        assert scores
        for followed, expected in scores:
            value = followed.of(raw)
            assert value.shape == (1,)
            assert value.dtype == torch.float32
            found = value.sigmoid() if followed.quantity == "log_odds" else value
            torch.testing.assert_close(found, torch.tensor([expected]), rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(followed.of(twice), value.expand(2), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_followed_score_depends_on_the_named_level_only(case, level_specs, make_features):
    head = trained_head_of(case, level_specs)
    features = make_features(1)
    with torch.no_grad():
        followed = next(iter(followed_scores(case, head, head(features))))[0]
    level = features[followed.level]
    changed = {name: own if own is level else torch.zeros_like(own) for name, own in features.items()}
    (value,) = followed.of(head(changed))
    torch.testing.assert_close(value, followed.of(head(features))[0], rtol=1e-3, atol=1e-3)
    (gradient,) = torch.autograd.grad(value, level)
    if followed.is_at_maximum:
        assert gradient.abs().max() < 1e-4
    else:
        assert gradient.abs().max() > 1e-6


@pytest.mark.parametrize("case", DETECTORS)
def test_score_of_another_class_is_followed_at_the_same_place(case, level_specs, make_features):
    head = trained_head_of(case, level_specs)
    with torch.no_grad():
        raw = head(make_features(1))
        (found,) = head.decode(raw, [SIZE])
        label = int(found.labels[0])
        own, other = (
            float(head.follow(raw, SIZE, ChosenPrediction(found.boxes_xyxy[0], label, wanted)).of(raw))
            for wanted in (label, (label + 1) % 3)
        )
    assert own > other


@pytest.mark.parametrize("case", EMBEDDINGS)
def test_similarity_to_a_reference_is_that_to_its_most_similar_embedding(case, level_specs, make_features):
    head = trained_head_of(case, level_specs)
    of_objects = head.needs_boxes
    references = torch.nn.functional.normalize(
        torch.randn(3, head.spec.dim, generator=torch.Generator().manual_seed(1)), dim=1
    )
    reference = EmbeddingPrediction(references if of_objects else references[0])
    with torch.no_grad():
        raw = head(make_features(1))
        box = BOX if of_objects else None
        own = head.decode(raw, [SIZE], [BOX[None]] if of_objects else None)[0].embeddings
        followed = head.follow(raw, SIZE, ChosenPrediction(box, reference=reference))
        expected = (references @ own[0]).max() if of_objects else references[0] @ own
        torch.testing.assert_close(followed.of(raw)[0], expected, rtol=1e-4, atol=1e-4)
    assert not followed.is_at_maximum


def test_reference_without_objects_is_rejected(level_specs, make_features):
    head = trained_head_of("embedding objects proxy_anchor", level_specs)
    nothing = EmbeddingPrediction(torch.zeros(0, 8))
    with torch.no_grad(), pytest.raises(ValueError, match="no object in the reference image"):
        head.follow(head(make_features(1)), SIZE, ChosenPrediction(BOX, reference=nothing))


def test_score_of_the_only_class_of_a_softmax_cannot_be_followed():
    with pytest.raises(ValueError, match="one class, whose score is always 1"):
        exclusive_log_odds(torch.zeros(1, 1), 0)


@pytest.mark.parametrize("logits", [(-200.0, -90.0), (-3.0, 2.0), (40.0, 60.0), (200.0, 200.0)])
def test_log_odds_of_extreme_scores_are_finite(logits):
    own, other = (torch.tensor([logit], requires_grad=True) for logit in logits)
    value = log_odds_of_mean(own, other)
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value.sum(), (own, other)))


def test_head_without_the_method_names_it():
    with pytest.raises(NotImplementedError, match="implement follow"):
        ExplainableHead().follow(None, SIZE, ChosenPrediction())
