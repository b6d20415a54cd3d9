"""Cases of the contract tests of heads: every head with several settings, or with its defaults."""

import torch

from heads.catalog import HEADS
from heads.detection_spec import DenseHeadSpec
from heads.spec import HEAD_SPECS
from tests.heads.building import build_head

CASES = {
    **{name: (name, {"num_convs": 1} if issubclass(spec, DenseHeadSpec) else {}) for name, spec in HEAD_SPECS.items()},
    "faster_rcnn": ("faster_rcnn", {"roi_channels": 256}),
    "faster_rcnn small": (
        "faster_rcnn",
        {
            "roi_levels": ("p3", "p4"),
            "roi_channels": 128,
            "roi_aligned": False,
            "roi_size": 5,
            "normalizer": "per_image",
        },
    ),
    "retinanet giou gn": ("retinanet", {"num_convs": 1, "box_loss": "giou", "norm": "gn"}),
    "retinanet l1": (
        "retinanet",
        {
            "num_convs": 1,
            "box_loss": "l1",
            "levels": ("p3", "p4", "p5"),
            "anchor_sizes": ((12, 18), (24, 36), (48, 72)),
        },
    ),
    "fcos none": ("fcos", {"num_convs": 2, "norm": "none", "levels": ("p3", "p4")}),
    "multiclass": ("multiclass", {"pool": "avgmax", "label_smoothing": 0.1}),
    "multiclass weighted": ("multiclass", {"level": "p5", "class_weights": torch.tensor([1.0, 2.0, 3.0])}),
    "multilabel": ("multilabel", {"pool": "max", "class_weights": torch.tensor([1.0, 2.0, 3.0])}),
    **{
        f"embedding {of} {loss}": ("embedding", {"of": of, "loss": loss, "dim": 8, "miner": "all"})
        for of in ("image", "objects")
        for loss in HEADS["embedding"].losses
    },
}
SIZE = (64, 96)
SIZES = [SIZE, (60, 90)]
DETECTORS = [case for case, (kind, _) in CASES.items() if HEADS[kind].kind == "detection"]
TWO_STAGE = [case for case, (kind, _) in CASES.items() if kind == "faster_rcnn"]
CLASSIFIERS = [case for case, (kind, _) in CASES.items() if HEADS[kind].kind == "classification"]
EMBEDDINGS = [case for case, (kind, _) in CASES.items() if HEADS[kind].kind == "embedding"]
BOXES = [case for case, (_, options) in CASES.items() if case in DETECTORS or options.get("of") == "objects"]


def head_of(case, level_specs, **changed):
    torch.manual_seed(0)
    kind, options = CASES[case]
    return build_head(kind, level_specs=level_specs, num_classes=3, **options, **changed)


def trained_head_of(case, level_specs, **changed):
    """Return a head whose scores and boxes differ as much as those of a trained head."""
    head = head_of(case, level_specs, **changed).eval()
    if case in DETECTORS:
        for name, parameter in head.named_parameters():
            if "output" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return head
