"""RetinaNet and FCOS equal torchvision's classes on the same backbone, pyramid, anchors and weights.

`docs/detection.md` lists the deviations that are meant. Here they are avoided, by settings or by the data:

- Settings: `cell_offset`, `anchor_sizes`, `round_anchors`, `box_loss: l1`, `box_weights: equal`, `bias_before_norm`,
  `normalizer: per_image`.
- Data: no crowds; no box shares its best anchor with another one; no ties; no detection without area; sizes are
  multiples of 128, for which torchvision's strides of P6 and P7 are 64 and 128.
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator

from heads.base import BoxTarget
from heads.dense import DenseHead
from heads.torchvision_heads import head_tensors
from pipelines.base.records import Category
from pipelines.model import MultiTaskModel, build_model
from pipelines.spec.model import ModelSpec
from tests.pipelines.parity_batch import SIZE_HW, in_unit_range, parity_images, parity_targets

NUM_CLASSES = 3
CHANNELS = 64
ANCHOR_SIZES = ((16, 20, 25), (32, 40, 50), (64, 80, 101), (128, 161, 203), (256, 322, 406))
SCORES = {"score_threshold": 0.15, "nms_iou": 0.5, "candidates_per_level": 150, "max_detections": 200}
ANCHORS = {"anchor_sizes": ANCHOR_SIZES, "round_anchors": True, "cell_offset": 0.0, **SCORES}
TASKS: dict[str, dict[str, Any]] = {
    "retinanet": {"head": "retinanet", "box_loss": "l1", **ANCHORS},
    "retinanet giou": {"head": "retinanet", "box_loss": "giou", **ANCHORS},
    "fcos": {"head": "fcos", "bias_before_norm": True, "box_weights": "equal", "cell_offset": 0.0, **SCORES},
}
CASES = [pytest.param(name, id=name) for name in TASKS]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


class Pyramid(nn.Module):
    """A copy of a network's backbone and neck, as torchvision's detectors take them."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(model.backbone)
        self.neck = copy.deepcopy(model.neck)
        self.out_channels = CHANNELS

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        return OrderedDict(self.neck(self.backbone(images)))


@dataclass
class Pair:
    """Both detectors, with equal weights, in eval mode."""

    ours: MultiTaskModel
    theirs: Any

    @property
    def head(self) -> DenseHead:
        head = self.ours.heads["objects"]
        assert isinstance(head, DenseHead)
        return head


def randomized(module: nn.Module) -> nn.Module:
    """Change all parameters and statistics at random, so that none of them is 0 or 1."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.05)
    return module


def build_pair(name: str) -> Pair:
    options = TASKS[name]
    spec = ModelSpec.model_validate(
        {
            "backbone": {"name": "resnet14_thin", "weights": "none"},
            "neck": {"channels": CHANNELS, "norm": "bn"},
            "tasks": {"objects": options},
            "channels_last": False,
        }
    )
    categories = {"objects": [Category(k, str(k)) for k in range(NUM_CLASSES)]}
    torch.manual_seed(0)
    ours = build_model(spec, categories)
    randomized(ours.backbone)
    randomized(ours.neck)
    shared: dict[str, Any] = {
        "num_classes": NUM_CLASSES,
        "min_size": min(SIZE_HW),
        "max_size": max(SIZE_HW),
        "image_mean": ours.mean.flatten().tolist(),
        "image_std": ours.std.flatten().tolist(),
        "score_thresh": options["score_threshold"],
        "nms_thresh": options["nms_iou"],
        "topk_candidates": options["candidates_per_level"],
        "detections_per_img": options["max_detections"],
    }
    if options["head"] == "fcos":
        theirs: nn.Module = FCOS(Pyramid(ours), **shared)
    else:
        generator = AnchorGenerator(ANCHOR_SIZES, ((0.5, 1.0, 2.0),) * len(ANCHOR_SIZES))
        theirs = RetinaNet(Pyramid(ours), anchor_generator=generator, **shared)
        theirs.head.regression_head._loss_type = options["box_loss"]
    randomized(theirs.head)
    with torch.no_grad():
        theirs.head.classification_head.cls_logits.bias.fill_(-2.5)
        # Small deltas, or distances above 0, so that no box lies outside of the image or has no area.
        theirs.head.regression_head.bbox_reg.weight.mul_(0.1)
        theirs.head.regression_head.bbox_reg.bias.fill_(2.0 if options["head"] == "fcos" else 0.0)
    pair = Pair(ours.eval(), theirs.eval())
    pair.head.load_state_dict(head_tensors(theirs.state_dict()))
    return pair


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest) -> Pair:
    """Return both detectors of one kind."""
    return build_pair(request.param)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return parity_images()


@pytest.fixture(scope="module")
def targets() -> list[BoxTarget]:
    return parity_targets()


@torch.no_grad()
def test_raw_outputs_are_equal(pair: Pair, images: Tensor) -> None:
    raw = pair.head(pair.ours.features(images))
    batch, _ = pair.theirs.transform(in_unit_range(images))
    outputs = pair.theirs.head(list(pair.theirs.backbone(batch.tensors).values()))
    torch.testing.assert_close(rows_of(pair, raw.logits), outputs["cls_logits"], **TOLERANCE)
    torch.testing.assert_close(rows_of(pair, raw.box_codes), outputs["bbox_regression"], **TOLERANCE)
    if raw.centerness is not None:
        torch.testing.assert_close(raw.centerness[..., None], outputs["bbox_ctrness"], **TOLERANCE)
    assert raw.logits.std() > 0.1


def rows_of(pair: Pair, rows_BN: Tensor) -> Tensor:
    """Return rows, ordered by cell, size and ratio, in torchvision's order: by cell, ratio and size."""
    if pair.head.anchors_per_cell == 1:
        return rows_BN
    return rows_BN.unflatten(1, (-1, 3, 3)).transpose(2, 3).flatten(1, 3)


@torch.no_grad()
def test_detections_are_equal_box_for_box(pair: Pair, images: Tensor) -> None:
    ours = pair.ours.predict(images, [SIZE_HW] * 3)["objects"]
    theirs = pair.theirs(in_unit_range(images))
    for found, expected in zip(ours, theirs, strict=True):
        assert len(expected["boxes"]) > 20
        assert (expected["boxes"][:, 2:] > expected["boxes"][:, :2]).all()
        torch.testing.assert_close(found.scores, expected["scores"], **TOLERANCE)  # type: ignore[attr-defined]
        torch.testing.assert_close(found.boxes_xyxy, expected["boxes"], **TOLERANCE)  # type: ignore[attr-defined]
        assert found.labels.tolist() == expected["labels"].tolist()  # type: ignore[attr-defined]


def their_losses(pair: Pair, images: Tensor, targets: list[BoxTarget]) -> dict[str, Tensor]:
    """Return torchvision's losses, with its norms in eval mode, as ours are."""
    pair.theirs.train()
    pair.theirs.backbone.eval()
    labels = [{"boxes": target.boxes_xyxy, "labels": target.labels} for target in targets]
    losses: dict[str, Tensor] = pair.theirs(in_unit_range(images), labels)
    pair.theirs.eval()
    names = {"bbox_regression": "boxes", "bbox_ctrness": "centerness"}
    return {names.get(name, name): loss for name, loss in losses.items()}


def our_losses(pair: Pair, images: Tensor, targets: list[BoxTarget], normalizer: str) -> dict[str, Tensor]:
    before = pair.head.normalizer.name
    pair.head.normalizer.name = normalizer  # type: ignore[assignment]
    terms = pair.ours.loss(images, {"objects": targets}, [SIZE_HW] * len(targets))["objects"]
    pair.head.normalizer.name = before
    return {term: total / count.clamp(min=1) for term, (total, count) in terms.items()}


def their_gradients(pair: Pair) -> dict[str, Tensor]:
    """Return the gradients of torchvision's parameters under the names of our network."""
    found = dict(pair.theirs.named_parameters())
    gradients = {name: parameter.grad for name, parameter in found.items()}
    shared = {name.removeprefix("backbone."): grad for name, grad in gradients.items() if name.startswith("backbone.")}
    return shared | {f"heads.objects.{name}": grad for name, grad in head_tensors(gradients).items()}


def compare(pair: Pair, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for term, loss in ours.items():
        torch.testing.assert_close(loss, theirs[term], **TOLERANCE)
        assert loss > 0
    pair.ours.zero_grad()
    pair.theirs.zero_grad()
    sum(ours.values()).backward()  # type: ignore[union-attr]
    sum(theirs.values()).backward()  # type: ignore[union-attr]
    expected = their_gradients(pair)
    for name, parameter in pair.ours.named_parameters():
        if not name.endswith("level_scales"):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, expected[name], **TOLERANCE)


def test_losses_and_gradients_per_image_are_equal(pair: Pair, images: Tensor, targets: list[BoxTarget]) -> None:
    """torchvision's FCOS divides by the positives of the batch, so its images are compared one by one."""
    ours = our_losses(pair, images, targets, "per_image")
    if pair.head.anchors_per_cell > 1:
        theirs = their_losses(pair, images, targets)
    else:
        alone = [their_losses(pair, images[b : b + 1], targets[b : b + 1]) for b in range(3)]
        theirs = {term: torch.stack([losses[term] for losses in alone]).mean() for term in ours}
    compare(pair, ours, theirs)


def test_losses_and_gradients_of_the_joint_batch_are_equal_for_fcos(images: Tensor, targets: list[BoxTarget]) -> None:
    pair = build_pair("fcos")
    compare(pair, our_losses(pair, images, targets, "global"), their_losses(pair, images, targets))
