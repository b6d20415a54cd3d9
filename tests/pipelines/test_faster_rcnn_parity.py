"""Faster R-CNN equals torchvision's class on the same backbone, pyramid, anchors and weights.

`docs/detection.md` lists the deviations that are meant. Here they are avoided, by settings or by the data:

- Settings: `cell_offset`, `anchor_sizes`, `round_anchors`, `roi_aligned`, `roi_cells`, and numbers of samples that take
  all anchors and proposals.
- Data: no crowds; no box shares its best anchor with another one; no ties; no boxes without area; sizes are multiples
  of 128, for which torchvision's strides of P6 and P7 are 64 and 128.
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from heads.base import BoxTarget
from heads.faster_rcnn import FasterRCNNHead
from heads.pooling import rows_of
from pipelines.base.records import Category
from pipelines.model import MultiTaskModel, build_model
from pipelines.spec.model import ModelSpec
from tests.pipelines.parity_batch import SIZE_HW, in_unit_range, parity_images, parity_targets

K = 3
ALL = 100_000
ANCHOR_SIZES = ((24,), (45,), (96,), (181,), (384,))
TASK: dict[str, Any] = {
    "head": "faster_rcnn",
    "anchor_sizes": ANCHOR_SIZES,
    "round_anchors": True,
    "cell_offset": 0.0,
    "candidates_per_level": 50,
    "max_proposals": 140,
    "anchor_samples": ALL,
    "roi_samples": ALL,
    "roi_aligned": False,
    "roi_cells": 2.5,
    "roi_channels": 32,
    "score_threshold": 0.1,
    "max_detections": 60,
}
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


class SharedLevels(nn.Module):
    """A copy of a network's backbone and neck, as torchvision's detectors take them."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(model.backbone)
        self.neck = copy.deepcopy(model.neck)
        self.out_channels = model.neck.feature_specs["p3"].channels  # type: ignore[union-attr,index]

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        return OrderedDict(self.neck(self.backbone(images)))


@dataclass
class TwoDetectors:
    """Both detectors, with equal weights, in eval mode."""

    ours: MultiTaskModel
    theirs: Any

    @property
    def head(self) -> FasterRCNNHead:
        head = self.ours.heads["objects"]
        assert isinstance(head, FasterRCNNHead)
        return head


def randomize(module: nn.Module) -> None:
    """Change all parameters and statistics at random, so that none of them is 0 or 1."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.05)


def to_theirs(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of our head by torchvision's names; background is its first class, with unused deltas."""
    names = {
        "rpn.head.conv.0.0": "proposal_network.tower.0",
        "rpn.head.cls_logits": "proposal_network.objectness_output",
        "rpn.head.bbox_pred": "proposal_network.box_output",
        "roi_heads.box_head.fc6": "box_head.trunk.1",
        "roi_heads.box_head.fc7": "box_head.trunk.3",
    }
    found = {}
    for kind in ("weight", "bias"):
        found |= {f"{theirs}.{kind}": tensors[f"{ours}.{kind}"] for theirs, ours in names.items()}
        rows = [tensors[f"box_head.{name}_output.{kind}"] for name in ("background", "class")]
        found[f"roi_heads.box_predictor.cls_score.{kind}"] = torch.cat(rows)
        deltas = tensors[f"box_head.box_output.{kind}"].unflatten(0, (4, K)).transpose(0, 1).flatten(0, 1)
        found[f"roi_heads.box_predictor.bbox_pred.{kind}"] = torch.cat((torch.zeros_like(deltas[:4]), deltas))
    return found


@pytest.fixture(scope="module")
def pair() -> TwoDetectors:
    """Return both detectors."""
    model = {"backbone": {"name": "resnet14_thin", "weights": "none"}, "neck": {"channels": 32, "norm": "bn"}}
    spec = ModelSpec.model_validate({**model, "tasks": {"objects": TASK}, "channels_last": False})
    torch.manual_seed(0)
    ours = build_model(spec, {"objects": [Category(k, str(k)) for k in range(K)]}).eval()
    randomize(ours)
    head = ours.heads["objects"]
    assert isinstance(head, FasterRCNNHead)
    with torch.no_grad():
        # Small deltas, so that no box has no area; and scores that differ clearly, so that rounding decides nothing.
        for layer in (head.proposal_network.box_output, head.box_head.box_output):
            layer.weight.mul_(0.3)
        head.proposal_network.objectness_output.weight.mul_(8)
        for layer in (head.box_head.background_output, head.box_head.class_output):
            layer.bias.zero_()
            layer.weight.sub_(layer.weight.mean(dim=1, keepdim=True)).mul_(10)  # else one class wins everywhere
    spec_of_head = head.spec
    theirs = FasterRCNN(
        SharedLevels(ours),
        num_classes=K + 1,
        min_size=min(SIZE_HW),
        max_size=max(SIZE_HW),
        image_mean=ours.mean.flatten().tolist(),
        image_std=ours.std.flatten().tolist(),
        rpn_anchor_generator=AnchorGenerator(ANCHOR_SIZES, ((0.5, 1.0, 2.0),) * len(ANCHOR_SIZES)),
        **{
            f"rpn_{when}_nms_top_n_{mode}": number
            for when, number in (("pre", TASK["candidates_per_level"]), ("post", TASK["max_proposals"]))
            for mode in ("train", "test")
        },
        rpn_nms_thresh=spec_of_head.proposal_nms_iou,
        rpn_fg_iou_thresh=spec_of_head.positive_iou,
        rpn_bg_iou_thresh=spec_of_head.negative_iou,
        rpn_batch_size_per_image=ALL,
        box_roi_pool=MultiScaleRoIAlign(list(spec_of_head.roi_levels), 7, 2, canonical_scale=40, canonical_level=4),
        box_head=None,
        box_score_thresh=spec_of_head.score_threshold,
        box_nms_thresh=spec_of_head.nms_iou,
        box_detections_per_img=spec_of_head.max_detections,
        box_batch_size_per_image=ALL,
    ).eval()
    theirs.roi_heads.box_head.fc6 = nn.Linear(32 * 7 * 7, TASK["roi_channels"])
    theirs.roi_heads.box_head.fc7 = nn.Linear(TASK["roi_channels"], TASK["roi_channels"])
    theirs.roi_heads.box_predictor.cls_score = nn.Linear(TASK["roi_channels"], K + 1)
    theirs.roi_heads.box_predictor.bbox_pred = nn.Linear(TASK["roi_channels"], 4 * (K + 1))
    report = theirs.load_state_dict(to_theirs(head.state_dict()), strict=False)
    assert not report.unexpected_keys
    assert not [name for name in report.missing_keys if not name.startswith(("backbone.", "rpn.anchor_generator."))]
    return TwoDetectors(ours, theirs)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return parity_images()


@pytest.fixture(scope="module")
def targets() -> list[BoxTarget]:
    return parity_targets()


@torch.no_grad()
def test_raw_outputs_and_proposals_are_equal(pair: TwoDetectors, images: Tensor) -> None:
    raw = pair.head(pair.ours.features(images)).proposals
    batch, _ = pair.theirs.transform(in_unit_range(images))
    features = pair.theirs.backbone(batch.tensors)
    logits, deltas = pair.theirs.rpn.head(list(features.values()))
    for own, maps, width in ((raw.objectness[..., None], logits, 1), (raw.deltas, deltas, 4)):
        rows = [level.permute(0, 2, 3, 1).reshape(3, -1, width) for level in maps]
        torch.testing.assert_close(own, torch.cat(rows, dim=1), **TOLERANCE)
    network = pair.head.proposal_network
    found = [own.boxes_xyxy for own in network.propose(raw, network.anchors(raw), [SIZE_HW] * 3)]
    expected, _ = pair.theirs.rpn(batch, features)
    for own, boxes in zip(found, expected, strict=True):
        assert len(boxes) > 100
        torch.testing.assert_close(own, boxes, **TOLERANCE)
    rows = pair.theirs.roi_heads.box_head(pair.theirs.roi_heads.box_roi_pool(features, expected, [SIZE_HW] * 3))
    logits_RK, deltas_R = pair.theirs.roi_heads.box_predictor(rows)
    own_logits, own_deltas = pair.head.box_head(pair.ours.features(images), rows_of(found))
    assert len(set(pair.head.box_head.roi_align.levels_of(torch.cat(found)).tolist())) == 4
    torch.testing.assert_close(own_logits.roll(1, dims=1), logits_RK, **TOLERANCE)
    torch.testing.assert_close(own_deltas.transpose(1, 2).flatten(1), deltas_R[:, 4:], **TOLERANCE)
    assert own_logits.std() > 0.1
    assert own_deltas.std() > 0.01


@torch.no_grad()
def test_detections_are_equal_box_for_box(pair: TwoDetectors, images: Tensor) -> None:
    ours = pair.ours.predict(images, [SIZE_HW] * 3)["objects"]
    theirs = pair.theirs(in_unit_range(images))
    for found, expected in zip(ours, theirs, strict=True):
        assert len(expected["boxes"]) > 20
        assert len(expected["labels"].unique()) > 1
        torch.testing.assert_close(found.scores, expected["scores"], **TOLERANCE)  # type: ignore[attr-defined]
        torch.testing.assert_close(found.boxes_xyxy, expected["boxes"], **TOLERANCE)  # type: ignore[attr-defined]
        assert (found.labels + 1).tolist() == expected["labels"].tolist()  # type: ignore[attr-defined]


def their_losses(pair: TwoDetectors, images: Tensor, targets: list[BoxTarget]) -> dict[str, Tensor]:
    """Return torchvision's losses, with its norms in eval mode, as ours are."""
    pair.theirs.train()
    pair.theirs.backbone.eval()
    labels = [{"boxes": target.boxes_xyxy, "labels": target.labels + 1} for target in targets]
    losses = pair.theirs(in_unit_range(images), labels)
    pair.theirs.eval()
    return {
        "objectness": losses["loss_objectness"],
        "proposals": losses["loss_rpn_box_reg"],
        "classification": losses["loss_classifier"],
        "boxes": losses["loss_box_reg"],
    }


@pytest.mark.parametrize("normalizer", ["global", "per_image"])
def test_losses_and_gradients_are_equal(
    normalizer: Any, pair: TwoDetectors, images: Tensor, targets: list[BoxTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision divides by the samples of the batch; for `per_image`, its images are compared one by one."""
    monkeypatch.setattr(pair.head.normalizer, "name", normalizer)
    terms = pair.ours.loss(images, {"objects": targets}, [SIZE_HW] * 3)["objects"]
    ours = {term: total / count for term, (total, count) in terms.items()}
    if normalizer == "global":
        theirs = their_losses(pair, images, targets)
    else:
        alone = [their_losses(pair, images[b : b + 1], targets[b : b + 1]) for b in range(3)]
        theirs = {term: torch.stack([losses[term] for losses in alone]).mean() for term in ours}
    for term, loss in ours.items():
        torch.testing.assert_close(loss, theirs[term], **TOLERANCE)
        assert loss > 0
    for model, losses in ((pair.ours, ours), (pair.theirs, theirs)):
        model.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
    gradients = {name: parameter.grad for name, parameter in pair.theirs.named_parameters()}
    for part in ("backbone", "neck"):
        for name, parameter in getattr(pair.ours, part).named_parameters():
            require_close(parameter.grad, gradients[f"backbone.{part}.{name}"], name)
    of_head = {name: parameter.grad for name, parameter in pair.head.named_parameters() if parameter.grad is not None}
    for name, gradient in to_theirs(of_head).items():
        require_close(gradient, gradients[name], name)


def require_close(gradient: Tensor | None, expected: Tensor | None, name: str) -> None:
    """Require equality to 1e-4 of the largest element, which is much less than 1 for a mean over many anchors."""
    assert gradient is not None, name
    assert expected is not None, name
    largest = expected.abs().max()
    assert largest > 1e-7, name
    assert (gradient - expected).abs().max() <= 1e-4 * largest, name
