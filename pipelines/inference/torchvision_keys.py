"""The key map from torchvision's RetinaNet and FCOS to this project's networks.

Differences beyond names:

- torchvision orders the anchors of a cell by ratio, then by size; here they are ordered by size, then by ratio.
- torchvision's FCOS has no scales of levels; they are 1.
- Norms may have another epsilon there; the scales are adapted, so that outputs are equal.

Legend: A anchors per cell, R aspect ratios, S sizes of anchors (A = R S), K classes.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from backbones.feature_extractor import IMAGENET_MEAN, IMAGENET_STD
from backbones.published_detectors import EPS
from backbones.weights import COUNTER

NUM_RATIOS = 3
"""R of torchvision's RetinaNet."""

_LAYERS = {
    "classification_head.conv": "class_tower",
    "classification_head.cls_logits": "class_output",
    "regression_head.conv": "box_tower",
    "regression_head.bbox_reg": "box_output",
    "regression_head.bbox_ctrness": "centerness_output",
}
_ROW_OUTPUTS = ("class_output", "box_output")
"""Layers whose outputs are ordered by anchor."""
_LEVELS = re.compile(r"fpn\.(inner|layer)_blocks\.([012])\.(?:0\.)?(weight|bias)")
"""Without the number 0 in files of torchvision before 0.13."""
_BLOCK = re.compile(r"(\d+)\.([01])\.(weight|bias)")
"""A layer of a tower of blocks; in FCOS, and in files of torchvision before 0.12, all layers have their own number."""


def head_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors below `head.` of a torchvision detector under the names of this project's head."""
    found: dict[str, Tensor] = {}
    for key, tensor in _below("head.", state).items():
        for theirs, ours in _LAYERS.items():
            if key.startswith(f"{theirs}."):
                found[f"{ours}.{key.removeprefix(f'{theirs}.')}"] = tensor
    has_norms = any((match := _BLOCK.search(key)) and match[2] == "1" for key in found)
    named = {_BLOCK.sub(lambda match: _flat_name(match, 3 if has_norms else 2), key): t for key, t in found.items()}
    anchors = named["box_output.bias"].shape[0] // 4
    if anchors % NUM_RATIOS == 0:
        for key in named:
            if key.startswith(_ROW_OUTPUTS):
                named[key] = _by_size(named[key], anchors)
    if "centerness_output.bias" in named:
        named["level_scales"] = torch.ones(5)
    return named


def _flat_name(match: re.Match[str], layers_per_block: int) -> str:
    return f"{int(match[1]) * layers_per_block + int(match[2])}.{match[3]}"


def _by_size(tensor: Tensor, anchors: int) -> Tensor:
    """Return a tensor whose rows are ordered by ratio, size and output, ordered by size, ratio and output."""
    rows = tensor.reshape(NUM_RATIOS, anchors // NUM_RATIOS, -1, *tensor.shape[1:])
    return rows.transpose(0, 1).reshape(tensor.shape)


def neck_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a torchvision detector's pyramid under the names of `backbones.fpn.FPN`."""
    found: dict[str, Tensor] = {}
    for key, tensor in _below("backbone.", state).items():
        if match := _LEVELS.fullmatch(key):
            part = "lateral" if match[1] == "inner" else "smooth"
            found[f"{part}.c{int(match[2]) + 3}.{match[3]}"] = tensor
    return found | _below("backbone.fpn.extra_blocks.", state)


def backbone_tensors(state: Mapping[str, Tensor], *, eps: float) -> dict[str, Tensor]:
    """Return the tensors of a torchvision detector's backbone under the names of its library.

    Args:
        state: the detector.
        eps: epsilon of its norms. The scale of a norm becomes scale * sqrt((variance + EPS) / (variance + eps)).
    """
    body = {key: t for key, t in _below("backbone.body.", state).items() if not key.endswith(COUNTER)}
    if eps == EPS:
        return body
    for key, variance in list(body.items()):
        if key.endswith(".running_var"):
            scale = f"{key.removesuffix('running_var')}weight"
            body[scale] = body[scale] * ((variance + EPS) / (variance + eps)).sqrt()
    return body


def normalization_tensors() -> dict[str, Tensor]:
    """Return the mean and the standard deviation of the images that torchvision's detectors expect."""
    return {
        "mean": torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1),
        "std": torch.tensor(IMAGENET_STD).view(1, 3, 1, 1),
    }


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
