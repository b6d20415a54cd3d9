import math

import pytest
import torch
from torch.nn import functional

from heads.base import ClassTarget, MixedClassTarget
from tests.heads.building import build_head

SIZES = [(64, 96)] * 5
WEIGHTS = torch.tensor([0.5, 2.0, 1.0])


def multiclass_targets(*labels):
    return [ClassTarget(torch.tensor(label)) for label in labels]


def multilabel_targets(*rows):
    return [ClassTarget(torch.tensor(row, dtype=torch.float32)) for row in rows]


@pytest.mark.parametrize(("weights", "smoothing"), [(None, 0.0), (None, 0.1), (WEIGHTS, 0.0)])
def test_sum_of_the_cross_entropies_of_two_parts_agrees_with_torch(level_specs, weights, smoothing):
    head = build_head(
        "multiclass", level_specs=level_specs, num_classes=3, class_weights=weights, label_smoothing=smoothing
    )
    torch.manual_seed(0)
    logits = torch.randn(5, 3)
    targets = multiclass_targets(0, 1, 1, 2, 0)
    parts = [
        head.loss(logits[:2], targets[:2], SIZES[:2])["cross_entropy"],
        head.loss(logits[2:], targets[2:], SIZES[2:])["cross_entropy"],
    ]
    loss = sum(total for total, _ in parts) / sum(count for _, count in parts)
    labels = torch.stack([target.labels for target in targets])
    torch.testing.assert_close(
        loss, functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_loss_of_a_mixed_target_is_the_mean_of_the_losses_of_its_labels(level_specs, weights, smoothing):
    head = build_head(
        "multiclass", level_specs=level_specs, num_classes=3, class_weights=weights, label_smoothing=smoothing
    )
    torch.manual_seed(0)
    logits = torch.randn(2, 3)
    mixed = MixedClassTarget(torch.tensor([2, 0]), torch.tensor([0.75, 0.25]))
    total, count = head.loss(logits, [mixed, *multiclass_targets(1)], SIZES[:2])["cross_entropy"]
    parts = [
        head.loss(logits[row : row + 1], multiclass_targets(label), SIZES[:1])["cross_entropy"]
        for row, label in ((0, 2), (0, 0), (1, 1))
    ]
    for found, (of_2, of_0, of_1) in zip((total, count), zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(found, 0.75 * of_2 + 0.25 * of_0 + of_1)


def test_bce_of_a_mixed_target_is_the_mean_of_the_losses_of_its_parts(level_specs):
    head = build_head("multilabel", level_specs=level_specs, num_classes=3, class_weights=WEIGHTS, label_smoothing=0.1)
    logits = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    one, other = multilabel_targets([1, 1, 0], [0, 1, 0])
    mixed = one.combined([other], [0.3, 0.7], side_by_side=False)
    found, of_one, of_other = (head.loss(logits, [target], SIZES[:1])["bce"][0] for target in (mixed, one, other))
    torch.testing.assert_close(found, 0.3 * of_one + 0.7 * of_other)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_smoothed_classes_have_the_lowest_cross_entropy_with_any_class_weights(level_specs, label):
    weights = torch.tensor([0.3, 20.0, 1.0])
    head = build_head("multiclass", level_specs=level_specs, num_classes=3, class_weights=weights, label_smoothing=0.3)
    smoothed = torch.full((1, 3), 0.1)
    smoothed[0, label] = 0.8
    logits = smoothed.log().requires_grad_()
    total, count = head.loss(logits, multiclass_targets(label), SIZES[:1])["cross_entropy"]
    total.backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 3), atol=1e-5, rtol=0)
    entropy = float(-(smoothed * smoothed.log()).sum())
    assert float(total.detach()) == pytest.approx(entropy * float(weights[label]))
    assert float(count) == float(weights[label])


def test_smoothed_labels_have_the_lowest_bce_with_any_class_weights(level_specs):
    weights = torch.tensor([0.3, 20.0])
    head = build_head("multilabel", level_specs=level_specs, num_classes=2, class_weights=weights, label_smoothing=0.2)
    smoothed = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    logits = smoothed.logit().requires_grad_()
    head.loss(logits, multilabel_targets([1, 0], [0, 1]), SIZES[:2])["bce"][0].backward()
    torch.testing.assert_close(logits.grad, torch.zeros(2, 2), atol=1e-5, rtol=0)


def test_count_of_cross_entropy_without_weights_is_the_number_of_images(level_specs):
    head = build_head("multiclass", level_specs=level_specs, num_classes=3)
    total, count = head.loss(torch.zeros(2, 3), multiclass_targets(0, 2), SIZES[:2])["cross_entropy"]
    assert float(total) == pytest.approx(2 * math.log(3))
    assert float(count) == 2


def test_bce_matches_a_hand_computed_example(level_specs):
    head = build_head(
        "multilabel",
        level_specs=level_specs,
        num_classes=2,
        class_weights=torch.tensor([3.0, 1.0]),
        label_smoothing=0.2,
    )
    logits = torch.tensor([[math.log(3), 0.0]])
    total, count = head.loss(logits, multilabel_targets([1, 0]), SIZES[:1])["bce"]
    # Targets become 0.9 and 0.1; the scores are 0.75 and 0.5; a positive of class 0 weighs 3.
    first = 3 * (-0.9 * math.log(0.75) - 0.1 * math.log(0.25))
    assert float(total) == pytest.approx((first + math.log(2)) / 2)
    assert float(count) == 1


def test_scores_of_an_image_are_probabilities(level_specs):
    logits = torch.tensor([[0.0, math.log(3)], [math.log(4), 0.0]])
    sizes = [(32, 32)] * 2
    multiclass = build_head("multiclass", level_specs=level_specs, num_classes=2).decode(logits, sizes)
    torch.testing.assert_close(multiclass[0].scores, torch.tensor([0.25, 0.75]))
    multilabel = build_head("multilabel", level_specs=level_specs, num_classes=2).decode(logits, sizes)
    torch.testing.assert_close(multilabel[1].scores, torch.tensor([0.8, 0.5]))


@pytest.mark.parametrize(("pool", "width"), [("avg", 16), ("max", 16), ("avgmax", 32)])
def test_pooling_determines_the_width_of_the_linear_layer(level_specs, make_features, pool, width):
    head = build_head("multiclass", level_specs=level_specs, num_classes=4, pool=pool)
    features = make_features(3)
    maps = features["c5"].flatten(2)
    parts = {"avg": [maps.mean(2)], "max": [maps.amax(2)], "avgmax": [maps.mean(2), maps.amax(2)]}[pool]
    pooled = torch.cat(parts, dim=1)
    assert pooled.shape[1] == width == head.linear.in_features
    torch.testing.assert_close(head(features), head.linear(pooled))


def test_dropout_is_active_in_training_only(level_specs, make_features):
    head = build_head("multiclass", level_specs=level_specs, num_classes=4, dropout=0.5)
    features = make_features(1)
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))


def test_state_does_not_contain_class_weights(level_specs):
    weighted = build_head("multiclass", level_specs=level_specs, num_classes=3, class_weights=WEIGHTS)
    plain = build_head("multiclass", level_specs=level_specs, num_classes=3)
    plain.load_state_dict(weighted.state_dict())
    assert weighted.class_weights is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "p5"}, "level: got 'p5'"),
        ({"level": "c9"}, r"level\n.*input_value='c9'"),
        ({"class_weights": torch.tensor([1.0, 0.0, 1.0])}, "3 positive numbers"),
    ],
)
def test_invalid_level_and_class_weights_are_rejected(level_specs, options, message):
    known = {level: spec for level, spec in level_specs.items() if level != "p5"}
    with pytest.raises(ValueError, match=message):
        build_head("multilabel", level_specs=known, num_classes=3, **options)
