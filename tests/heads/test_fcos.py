import pytest
import torch
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import generalized_box_iou_loss

from heads.dense import DenseOutputs
from heads.fcos import centerness_targets
from tests.heads.building import build_head

LEVELS = ("p3", "p4", "p5")
DECODING = {"score_threshold": 0.2, "nms_iou": 0.6, "candidates_per_level": 40, "max_detections": 15}


@pytest.fixture
def head(level_specs):
    torch.manual_seed(0)
    return build_head(
        "fcos", level_specs=level_specs, num_classes=3, levels=LEVELS, num_convs=1, range_scale=2.0, **DECODING
    )


@pytest.fixture
def raw(head, make_features):
    """Outputs for two images with varied scores and boxes."""
    raw = head(make_features(2))
    return DenseOutputs(
        raw.logits + torch.randn_like(raw.logits) * 2,
        raw.box_codes + torch.rand_like(raw.box_codes) * 3,
        raw.sizes_hw,
        raw.centerness + torch.randn_like(raw.centerness),
    )


@pytest.fixture
def targets(box_target):
    return [
        box_target([(4, 6, 39.5, 44), (50.5, 10, 90, 34), (60, 14, 74, 29)], [2, 0, 1]),
        box_target([(30, 20, 62, 60), (1, 2, 24.4, 20.3), (66, 40, 90, 61), (0.5, 1, 95, 63)], [1, 0, 2, 2]),
    ]


@pytest.fixture
def oracle():
    """torchvision's FCOS: its levels take boxes of 4 to 8 anchor sides, so a quarter of the side gives our ranges."""
    backbone = nn.Identity()
    backbone.out_channels = 32
    return FCOS(
        backbone,
        3,
        anchor_generator=AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3),
        center_sampling_radius=1.5 * 4,
        score_thresh=0.2,
        nms_thresh=0.6,
        topk_candidates=40,
        detections_per_img=15,
    )


def squares(geometry, part=1.0):
    half = geometry[:, 2:3] * part / 2
    return torch.cat((geometry[:, :2] - half, geometry[:, :2] + half), dim=1)


def test_geometry_contains_stride_radius_and_range_of_each_location(head, raw):
    geometry = head.geometry(raw)
    assert geometry[0].tolist() == [4, 4, 8, 12, 0, 16]
    assert geometry[8 * 12].tolist() == [8, 8, 16, 24, 16, 32]
    assert geometry[-1].tolist() == [80, 48, 32, 48, 32, torch.inf]


def test_paper_ranges_come_from_the_default_scale(level_specs):
    head = build_head("fcos", level_specs=level_specs, num_classes=1, num_convs=0)
    ranges = [[0, 64], [64, 128], [128, 256], [256, 512], [512, torch.inf]]
    assert head.level_geometry[:, 2:].tolist() == ranges


def test_classification_and_centerness_losses_agree_with_torchvision(head, raw, targets, oracle):
    terms = head.loss(raw, targets, [(64, 96)] * 2)
    expected = oracle.compute_loss(
        [{"boxes": target.boxes_xyxy, "labels": target.labels} for target in targets],
        {
            "cls_logits": raw.logits,
            "bbox_regression": raw.box_codes,
            "bbox_ctrness": raw.centerness[..., None],
        },
        [squares(head.geometry(raw), part=0.25)] * 2,
        [height * width for height, width in raw.sizes_hw],
    )
    assert terms["centerness"][1] > 15
    torch.testing.assert_close(terms["classification"][0] / terms["classification"][1], expected["classification"])
    torch.testing.assert_close(terms["centerness"][0] / terms["centerness"][1], expected["bbox_ctrness"])


def test_box_loss_is_giou_weighted_by_centerness(head, raw, box_target):
    # Only the cell of p3 at (20, 12) takes this box: 4.1 and 3.9 px to its edges along x, 4 and 4 along y.
    target = box_target([(15.9, 8, 23.9, 16)])
    one = DenseOutputs(raw.logits[:1], raw.box_codes[:1], raw.sizes_hw, raw.centerness[:1])
    total, count = head.loss(one, [target], [(64, 96)])["boxes"]
    weight = (3.9 / 4.1) ** 0.5
    row = 1 * 12 + 2
    left, top, right, bottom = (raw.box_codes[0, row] * 8).tolist()
    predicted = torch.tensor([[20 - left, 12 - top, 20 + right, 12 + bottom]])
    torch.testing.assert_close(count, torch.tensor(weight))
    torch.testing.assert_close(total, weight * generalized_box_iou_loss(predicted, target.boxes_xyxy).sum())


def test_centerness_matches_a_hand_computed_example():
    distances = torch.tensor([[5.0, 5, 5, 5], [1, 4, 4, 16]])
    torch.testing.assert_close(centerness_targets(distances), torch.tensor([1.0, 0.25]))


def test_detections_agree_with_torchvision(head, raw, oracle):
    lengths = [height * width for height, width in raw.sizes_hw]
    anchors = list(squares(head.geometry(raw)).split(lengths))
    outputs = {
        "cls_logits": raw.logits.split(lengths, dim=1),
        "bbox_regression": raw.box_codes.split(lengths, dim=1),
        "bbox_ctrness": raw.centerness[..., None].split(lengths, dim=1),
    }
    sizes = [(60, 90), (64, 96)]
    expected = oracle.postprocess_detections(outputs, [anchors] * 2, sizes)
    for prediction, detections in zip(head.decode(raw, sizes), expected, strict=True):
        assert len(detections["scores"]) == 15
        torch.testing.assert_close(prediction.boxes_xyxy, detections["boxes"])
        torch.testing.assert_close(prediction.scores, detections["scores"])
        assert prediction.labels.tolist() == detections["labels"].tolist()


def test_single_level_takes_boxes_of_every_size(level_specs, make_features, box_target):
    head = build_head("fcos", level_specs=level_specs, num_classes=1, num_convs=0, levels=["p4"])
    terms = head.loss(head(make_features(1)), [box_target([(0, 0, 96, 64)])], [(64, 96)])
    assert terms["classification"][1] > 0


def test_initial_distances_are_half_the_range_and_no_relu_is_dead(level_specs, make_features):
    head = build_head("fcos", level_specs=level_specs, num_classes=1, range_scale=6.0)
    distances = head(make_features()).box_codes
    assert (distances > 0).all()
    assert 2.9 < distances.mean() < 3.1


def test_other_box_losses_are_rejected(level_specs):
    with pytest.raises(ValueError, match=r"box_loss\n.*should be 'giou' .*input_value='smooth_l1'"):
        build_head("fcos", level_specs=level_specs, num_classes=1, box_loss="smooth_l1")
