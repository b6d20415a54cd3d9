import pytest
import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from heads.dense import DenseOutputs
from tests.heads.building import build_head

LEVELS = ("p3", "p4", "p5")
SIZES = [(64, 96), (64, 96)]
DECODING = {"score_threshold": 0.3, "nms_iou": 0.4, "candidates_per_level": 50, "max_detections": 20}


@pytest.fixture
def head(level_specs):
    torch.manual_seed(0)
    return build_head(
        "retinanet", level_specs=level_specs, num_classes=3, levels=LEVELS, num_convs=1, scales_per_octave=1, **DECODING
    )


@pytest.fixture
def raw(head, make_features):
    """Outputs for two images with varied scores and boxes."""
    raw = head(make_features(2))
    logits = raw.logits + torch.randn_like(raw.logits) * 2
    return DenseOutputs(logits, raw.box_codes + torch.randn_like(raw.box_codes) * 0.2, raw.sizes_hw)


@pytest.fixture
def targets(box_target):
    return [box_target([(4, 6, 40, 44), (50, 10, 90, 34)], [2, 0]), box_target([(30, 20, 62, 60)], [1])]


@pytest.fixture
def oracle():
    backbone = nn.Identity()
    backbone.out_channels = 12
    anchors = AnchorGenerator(((8,),) * 3, ((0.5, 1.0, 2.0),) * 3)
    model = RetinaNet(
        backbone,
        3,
        anchor_generator=anchors,
        score_thresh=0.3,
        nms_thresh=0.4,
        topk_candidates=50,
        detections_per_img=20,
    )
    model.head.regression_head._loss_type = "giou"
    return model


def image_of(raw, image):
    return DenseOutputs(raw.logits[image : image + 1], raw.box_codes[image : image + 1], raw.sizes_hw)


def test_anchors_cover_the_levels_cell_by_cell(head, raw):
    anchors = head.geometry(raw)
    assert len(anchors) == (8 * 12 + 4 * 6 + 2 * 3) * 3 == raw.logits.shape[1]
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    torch.testing.assert_close(centers[[0, 2, 3, 36]], torch.tensor([[4.0, 4], [4, 4], [12, 4], [4, 12]]))


def test_explicit_rounded_anchors_are_those_of_torchvision(level_specs, make_features):
    sizes, ratios = ((10, 13), (21, 30), (43, 57)), (0.5, 1.0, 2.0)
    options = {"anchor_sizes": sizes, "round_anchors": True, "cell_offset": 0.0, "num_convs": 0}
    head = build_head("retinanet", level_specs=level_specs, num_classes=1, levels=LEVELS, **options)
    features = make_features(1)
    anchors = head.geometry(head(features))
    images = ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)])
    (expected,) = AnchorGenerator(sizes, (ratios,) * 3)(images, [features[level] for level in LEVELS])
    # torchvision orders the six anchors of a cell by ratio, then by size.
    torch.testing.assert_close(anchors, expected.view(-1, 3, 2, 4).transpose(1, 2).reshape(-1, 4))


def test_row_of_the_outputs_depends_on_the_cell_of_its_anchor(head, make_features):
    features = make_features(1)
    row = (8 * 12 + 1 * 6 + 4) * 3 + 2
    raw = head(features)
    torch.testing.assert_close(head.geometry(raw)[row].view(2, 2).mean(dim=0), torch.tensor([4.5 * 16, 1.5 * 16]))
    raw.logits[0, row, 1].backward()
    reached = features["p4"].grad.abs().sum(dim=(0, 1)).nonzero()
    # Two 3x3 convolutions see two cells to each side of (1, 4).
    assert reached.min(dim=0).values.tolist() == [0, 2]
    assert reached.max(dim=0).values.tolist() == [3, 5]
    assert features["p3"].grad.abs().sum() == 0


def test_matching_uses_the_thresholds_of_the_settings(level_specs, make_features, box_target):
    def counts(**thresholds):
        torch.manual_seed(0)
        head = build_head("retinanet", level_specs=level_specs, num_classes=3, levels=LEVELS, num_convs=0, **thresholds)
        target = box_target([(4, 6, 40, 44), (50, 10, 90, 60)], crowd=[False, True])
        terms = head.loss(head(make_features(1)), [target], SIZES[:1])
        return terms["boxes"][1].item(), terms["classification"][0].item()

    positives, loss = counts()
    assert counts(positive_iou=0.5, negative_iou=0.4, crowd_iof=0.5) == (positives, loss)
    assert counts(positive_iou=0.4, negative_iou=0.4)[0] > positives
    assert counts(negative_iou=0.1)[0] == counts(crowd_iof=1.0)[0] == positives
    assert counts(negative_iou=0.1)[1] < loss < counts(crowd_iof=1.0)[1]


def test_losses_of_an_image_agree_with_torchvision(head, raw, targets, oracle):
    head.spec = head.spec.model_copy(update={"box_loss": "giou"})
    for image, target in enumerate(targets):
        one = image_of(raw, image)
        terms = head.loss(one, [target], SIZES[:1])
        expected = oracle.compute_loss(
            [{"boxes": target.boxes_xyxy, "labels": target.labels}],
            {"cls_logits": one.logits, "bbox_regression": one.box_codes},
            [head.geometry(one)],
        )
        assert terms["boxes"][1] > 3
        torch.testing.assert_close(terms["classification"][0] / terms["classification"][1], expected["classification"])
        torch.testing.assert_close(terms["boxes"][0] / terms["boxes"][1], expected["bbox_regression"])


def test_smooth_l1_compares_with_the_encoded_boxes(head, raw, targets):
    anchors = head.geometry(raw)
    matched = Matcher(0.5, 0.4, allow_low_quality_matches=True)(box_iou(targets[0].boxes_xyxy, anchors))
    rows = (matched >= 0).nonzero().squeeze(1)
    encoded = BoxCoder((1.0,) * 4).encode_single(targets[0].boxes_xyxy[matched[rows]], anchors[rows])
    difference = (raw.box_codes[0, rows] - encoded).abs()
    expected = torch.where(difference < 1 / 9, 4.5 * difference**2, difference - 1 / 18).sum()
    total, count = head.loss(image_of(raw, 0), targets[:1], SIZES[:1])["boxes"]
    assert int(count) == len(rows)
    torch.testing.assert_close(total, expected)


def test_loss_of_a_batch_is_the_sum_over_its_images(head, raw, targets):
    together = head.loss(raw, targets, SIZES)
    alone = [head.loss(image_of(raw, image), targets[image : image + 1], SIZES[:1]) for image in range(2)]
    for term, (total, count) in together.items():
        torch.testing.assert_close(total, sum(terms[term][0] for terms in alone))
        torch.testing.assert_close(count, sum(terms[term][1] for terms in alone))


def test_detections_agree_with_torchvision(head, raw, oracle):
    lengths = [height * width * 3 for height, width in raw.sizes_hw]
    anchors = list(head.geometry(raw).split(lengths))
    outputs = {"cls_logits": raw.logits.split(lengths, dim=1), "bbox_regression": raw.box_codes.split(lengths, dim=1)}
    sizes = [(60, 90), (64, 96)]
    expected = oracle.postprocess_detections(outputs, [anchors] * 2, sizes)
    for prediction, detections in zip(head.decode(raw, sizes), expected, strict=True):
        assert len(detections["scores"]) == 20
        torch.testing.assert_close(prediction.boxes_xyxy, detections["boxes"])
        torch.testing.assert_close(prediction.scores, detections["scores"])
        assert prediction.labels.tolist() == detections["labels"].tolist()


def test_every_class_starts_at_a_score_of_one_percent(head, make_features):
    scores = head.scores(head(make_features()))
    assert 0.005 < scores.median() < 0.02
