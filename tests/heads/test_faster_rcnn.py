"""Faster R-CNN: proposals, samples, and exactness on any number of ranks."""

import copy

import pytest
import torch
from torchvision.ops import box_iou

from heads.losses import NEGATIVE
from heads.proposals import Proposals
from tests.heads.building import build_head

SIZE = (64, 96)
BOXES = [(8.0, 8, 40, 40), (50, 20, 90, 60), (4, 40, 30, 62)]


@pytest.fixture
def head(level_specs):
    torch.manual_seed(0)
    head = build_head(
        "faster_rcnn", level_specs=level_specs, num_classes=3, roi_channels=16, anchor_samples=30, roi_samples=12
    )
    # Outputs of a new network are almost the same everywhere, so that rounding would decide which proposal is better.
    for layer in (head.proposal_network.objectness_output, head.box_head.class_output):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return head


def batch_of(make_features, box_target):
    """Return features and targets of six images: one has no boxes, one has a crowd region."""
    targets = [box_target(BOXES[: image % 4], list(range(image % 4)), [image == 3] * (image % 4)) for image in range(6)]
    return {level: maps.detach() for level, maps in make_features(6).items()}, targets


def part_of(features, targets, images):
    return {level: maps[images] for level, maps in features.items()}, [targets[image] for image in images]


def loss_of(head, features, targets):
    return head.loss(head(features), targets, [SIZE] * len(targets))


@pytest.mark.parametrize(
    "ranks", [[[0, 1, 2, 3, 4, 5]], [[0, 1, 2, 3], [4, 5]], [[0, 1], [2, 3, 4], [5]], [[], [5, 3]]]
)
def test_sums_counts_and_gradients_of_ranks_add_up_to_those_of_the_joint_batch(ranks, head, make_features, box_target):
    features, targets = batch_of(make_features, box_target)
    joint = copy.deepcopy(head)
    for module in (head, joint):
        module.num_batches.fill_(7)
    expected = loss_of(joint, *part_of(features, targets, [image for images in ranks for image in images]))
    sum(total for total, _ in expected.values()).backward()
    found = []
    for images in ranks:
        terms = loss_of(head, *part_of(features, targets, images)) if images else head.idle_loss()
        sum(total for total, _ in terms.values()).backward()
        found.append(terms)
        assert head.num_batches == 8
        head.num_batches.fill_(7)
    for term, (total, count) in expected.items():
        torch.testing.assert_close(sum(terms[term][0] for terms in found), total, rtol=1e-5, atol=1e-5)
        assert sum(terms[term][1] for terms in found) == count
    for parameter, other in zip(head.parameters(), joint.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-5, atol=1e-5)


def test_each_training_step_draws_another_sample_that_its_state_repeats(head, make_features, box_target):
    features, targets = batch_of(make_features, box_target)
    losses = []
    for _ in range(2):
        state = copy.deepcopy(head.state_dict())
        losses.append(loss_of(head, features, targets))
    assert all(losses[0][term][0] != losses[1][term][0] for term in ("objectness", "classification"))
    head.load_state_dict(state)
    torch.manual_seed(123)
    assert loss_of(head, features, targets) == losses[1]


def test_loss_in_evaluation_mode_repeats_and_leaves_global_random_numbers_alone(head, make_features, box_target):
    features, targets = batch_of(make_features, box_target)
    head.eval()
    state = torch.get_rng_state()
    assert loss_of(head, features, targets) == loss_of(head, features, targets)
    assert torch.equal(torch.get_rng_state(), state)
    assert head.num_batches == 0


def test_proposals_are_clipped_limited_and_without_strong_overlaps_within_a_level(head, make_features):
    raw = head(make_features(2)).proposals
    network = head.proposal_network
    anchors = network.anchors(raw)
    network.spec = network.spec.model_copy(update={"max_proposals": 40})
    for found, (height, width) in zip(network.propose(raw, anchors, [SIZE, (50, 70)]), [SIZE, (50, 70)], strict=True):
        boxes = found.boxes_xyxy
        assert 0 < len(boxes) == len(found.anchor_idxs) <= 40
        assert not boxes.requires_grad
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height, width, height])).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        first_level = found.anchor_idxs < 8 * 12 * 3
        overlaps = box_iou(boxes[first_level], boxes[first_level]).fill_diagonal_(0)
        assert overlaps.max() <= network.spec.proposal_nms_iou


def test_target_boxes_are_proposals_but_crowd_regions_are_not(head, box_target):
    none = Proposals(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    target = box_target(BOXES, [2, 0, 1], [False, True, False])
    own = head.box_head.sample(none, target, torch.zeros(0), 0)
    assert own.proposals_xyxy.tolist() == [list(BOXES[0]), list(BOXES[2])]
    assert own.labels.tolist() == [2, 1]
    assert torch.equal(own.boxes_xyxy, own.proposals_xyxy)


def test_proposals_in_a_crowd_region_are_neither_positive_nor_negative(head, box_target):
    boxes = torch.tensor([[50.0, 20, 70, 60], [0, 0, 20, 20], [9, 8, 40, 40]])
    target = box_target(BOXES[:2], [2, 0], [False, True])
    own = head.box_head.sample(Proposals(boxes, torch.arange(3)), target, torch.arange(3.0), 0)
    assert own.proposals_xyxy.tolist() == [[0, 0, 20, 20], [9, 8, 40, 40], list(BOXES[0])]
    assert own.labels.tolist() == [NEGATIVE, 2, 2]


def test_image_without_proposals_and_boxes_has_a_zero_loss_and_no_detections(head, box_target, make_features):
    features = make_features(1)
    none = Proposals(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    own = head.box_head.sample(none, box_target([]), torch.zeros(0), 0)
    terms = head.box_head.loss(features, [own], head.normalizer)
    assert all(total == count == 0 for total, count in terms.values())
    (found,) = head.decode(head(features), [(0, 0)])
    assert len(found.scores) == 0
    sum(total for total, _ in terms.values()).backward()
    assert all(parameter.grad is not None for parameter in head.box_head.parameters())


def test_frozen_head_passes_gradients_to_every_level_that_it_reads(head, make_features, box_target):
    features = make_features(2)
    for parameter in head.parameters():
        parameter.requires_grad_(False)
    terms = head.loss(head(features), [box_target(BOXES)] * 2, [SIZE] * 2)
    sum(total for total, _ in terms.values()).backward()
    assert all(features[level].grad is not None for level in head.spec.levels)
    assert all(features[level].grad.abs().sum() > 0 for level in ("p3", "p4"))
    assert all(not total.requires_grad for total, _ in head.idle_loss().values())
