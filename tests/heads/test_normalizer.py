import pytest
import torch

from heads.normalizer import Normalizer
from tests.heads.building import build_head

SIZE = (64, 96)
DETECTORS = {
    "retinanet": {"num_convs": 1},
    "retinanet giou": {"num_convs": 1, "box_loss": "giou"},
    "fcos": {"num_convs": 1},
    "faster_rcnn": {"roi_channels": 16, "anchor_samples": 1000, "roi_samples": 1000},
}


def head_of(case, level_specs, normalizer):
    torch.manual_seed(0)
    head = case.partition(" ")[0]
    return build_head(head, level_specs=level_specs, num_classes=3, normalizer=normalizer, **DETECTORS[case])


def loss_of(head, features, targets):
    terms = head.loss(head(features), targets, [SIZE] * len(targets))
    return sum(total / count.clamp(min=1) for total, count in terms.values())


@pytest.fixture
def targets(box_target):
    """One image with two boxes, one without any, and one with a small box."""
    return [
        box_target([(4, 6, 40, 44), (50, 10, 90, 34)], [2, 0]),
        box_target([]),
        box_target([(20, 20, 32, 30)], [1]),
    ]


@pytest.mark.parametrize("case", DETECTORS)
def test_loss_per_image_is_the_mean_of_the_losses_of_single_images(case, level_specs, make_features, targets):
    features = make_features(3)
    head = head_of(case, level_specs, "per_image")
    together = loss_of(head, features, targets)
    alone = [
        loss_of(
            head_of(case, level_specs, "global"),
            {level: maps[image : image + 1] for level, maps in features.items()},
            [target],
        )
        for image, target in enumerate(targets)
    ]
    torch.testing.assert_close(together, torch.stack(alone).mean())


@pytest.mark.parametrize("case", DETECTORS)
def test_positives_of_one_image_do_not_change_the_loss_per_image_of_another(
    case, level_specs, make_features, targets, box_target
):
    features = make_features(2)
    head = head_of(case, level_specs, "per_image")
    few = loss_of(head, features, targets[:2])
    many = loss_of(head, features, [targets[0], box_target([(2, 2, 30, 28), (40, 20, 90, 60), (10, 30, 38, 62)])])
    first = {level: maps[:1] for level, maps in features.items()}
    second = {level: maps[1:] for level, maps in features.items()}
    own = loss_of(head, first, targets[:1])
    torch.testing.assert_close(2 * few - own, loss_of(head, second, targets[1:2]))
    assert many != few


def ema_terms(normalizer, counts, num_images=2):
    totals = {f"term{i}": (torch.tensor(3.0), torch.tensor(float(count))) for i, count in enumerate(counts)}
    return [float(count) for _, count in normalizer.terms(totals, num_images).values()]


def test_moving_average_starts_with_the_first_count_and_takes_a_tenth_of_each_new_one():
    normalizer = Normalizer("ema", 2)
    assert ema_terms(normalizer, [20, 5]) == [20, 5]
    assert ema_terms(normalizer, [40, 5]) == pytest.approx([22, 5])
    assert ema_terms(normalizer, [0, 0]) == pytest.approx([0.9 * 22 + 0.1, 0.9 * 5 + 0.1])


def test_moving_average_does_not_change_in_eval_mode_or_without_labeled_images():
    normalizer = Normalizer("ema", 1)
    ema_terms(normalizer, [20])
    normalizer.idle()
    assert normalizer.mean_counts.tolist() == [20]
    normalizer.eval()
    assert ema_terms(normalizer, [40]) == pytest.approx([22])
    assert normalizer.mean_counts.tolist() == [20]


@pytest.mark.parametrize("case", DETECTORS)
def test_moving_average_is_part_of_the_state_and_only_of_that_normalizer(case, level_specs, make_features, targets):
    head = head_of(case, level_specs, "ema")
    loss_of(head, make_features(3), targets)
    resumed = head_of(case, level_specs, "ema")
    resumed.load_state_dict(head.state_dict())
    assert torch.equal(resumed.normalizer.mean_counts, head.normalizer.mean_counts)
    assert (head.normalizer.mean_counts > 1).all()
    features = make_features(3, seed=1)
    assert torch.equal(loss_of(head, features, targets[:1] * 3), loss_of(resumed, features, targets[:1] * 3))
    others = [head_of(case, level_specs, name).state_dict().keys() for name in ("global", "per_image")]
    assert others[0] == others[1] == head.state_dict().keys() - {"normalizer.mean_counts"}
