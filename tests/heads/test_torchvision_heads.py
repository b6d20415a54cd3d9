from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead

from heads.torchvision_heads import read_head
from tests.heads.building import build_head
from tests.heads.conftest import Level

CHANNELS, NUM_CLASSES = 64, 5
LEVELS = {f"p{k}": Level(CHANNELS, 2.0**k) for k in range(3, 8)}
HEADS = {
    "retinanet": lambda: RetinaNetHead(CHANNELS, 9, NUM_CLASSES),
    "retinanet v2": lambda: RetinaNetHead(CHANNELS, 9, NUM_CLASSES, norm_layer=partial(nn.GroupNorm, 32)),
    "fcos": lambda: FCOSHead(CHANNELS, 1, NUM_CLASSES),
    "fcos of two convolutions": lambda: FCOSHead(CHANNELS, 1, NUM_CLASSES, num_convs=2),
}


def state_of(theirs):
    return {f"head.{key}": tensor for key, tensor in theirs.state_dict().items()}


@pytest.fixture(params=HEADS)
def theirs(request):
    torch.manual_seed(0)
    head = HEADS[request.param]()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return head


@torch.no_grad()
def test_head_with_the_settings_of_a_state_dict_has_its_outputs(theirs):
    found = read_head(state_of(theirs))
    options = {**found.settings, **found.geometry}
    head = build_head(options.pop("head"), level_specs=LEVELS, num_classes=found.num_classes, **options)
    head.load_state_dict(found.tensors)
    features = {
        level: torch.randn(2, CHANNELS, size, size) for level, size in zip(LEVELS, (8, 4, 2, 1, 1), strict=True)
    }
    raw, expected = head(features), theirs(list(features.values()))
    order = torch.arange(raw.logits.shape[1])
    if head.anchors_per_cell == 9:
        order = order.view(-1, 3, 3).transpose(1, 2).flatten()
    torch.testing.assert_close(raw.logits[:, order], expected["cls_logits"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(raw.box_codes[:, order], expected["bbox_regression"], rtol=1e-4, atol=1e-4)


def test_some_classes_are_taken_in_another_order(theirs):
    found = read_head(state_of(theirs))
    chosen = found.with_classes([4, 0])
    rows = found.tensors["class_output.bias"].view(-1, NUM_CLASSES)
    assert chosen.num_classes == 2
    assert torch.equal(chosen.tensors["class_output.bias"].view(-1, 2), rows[:, [4, 0]])
    assert chosen.tensors["class_output.weight"].shape == (len(rows) * 2, CHANNELS, 3, 3)


def test_other_anchors_than_torchvisions_are_rejected():
    with pytest.raises(ValueError, match="its retinanet head has 3 anchors per cell; only 9 are supported"):
        read_head(state_of(RetinaNetHead(CHANNELS, 3, NUM_CLASSES)))


@pytest.mark.parametrize("layer", ["classification_head.cls_logits", "regression_head.bbox_reg"])
@pytest.mark.parametrize(("key", "rows"), [("weight", None), ("bias", None), ("bias", slice(-1)), ("weight", slice(2))])
def test_missing_or_cut_output_layer_is_reported(theirs, layer, key, rows):
    state = state_of(theirs)
    tensor = state.pop(f"head.{layer}.{key}")
    if rows is not None:
        state[f"head.{layer}.{key}"] = tensor[rows]
    with pytest.raises(ValueError, match="its head is damaged"):
        read_head(state)


def test_boxes_that_are_not_four_numbers_for_each_anchor_are_reported():
    state = state_of(HEADS["retinanet"]())
    for key in ("weight", "bias"):
        state[f"head.regression_head.bbox_reg.{key}"] = state[f"head.regression_head.bbox_reg.{key}"][:-1]
    with pytest.raises(ValueError, match="its head is damaged"):
        read_head(state)
