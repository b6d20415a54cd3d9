"""Detectors that torchvision publishes with weights trained on COCO: their classes and their norms.

Their files are a fixed list, `backbones.weights_sources.rows.DETECTORS`: a document cannot name a URL.
"""

from pathlib import Path

from torchvision import models

from backbones.weights_sources.base import sha256_of
from backbones.weights_sources.rows import DETECTORS

COCO = "retinanet_resnet50_fpn"
"""The detector whose weights were trained with norms without epsilon, see `norm_eps`."""
EPS = 1e-5
"""Epsilon of torch's BatchNorm and of torchvision's frozen one."""


def coco_classes() -> list[str]:
    """Return the names of the 91 outputs of detectors trained on COCO: 80 classes, and placeholders.

    The position is COCO's category id. The placeholders are `__background__` and `N/A`.
    """
    return list(models.get_model_weights(COCO).DEFAULT.meta["categories"])


def norm_eps(file: Path) -> float:
    """Return the epsilon of the frozen norms that a detector's file was trained with.

    torchvision sets it to 0 for its published RetinaNet, which was trained before FrozenBatchNorm2d had an epsilon
    (`torchvision.models.detection._utils.overwrite_eps`). The file is recognized by its hash.
    """
    published = DETECTORS[COCO].sha256
    return 0.0 if published is not None and sha256_of(file).startswith(published) else EPS
