"""torchvision's RetinaNet and FCOS heads as heads of this project.

Differences beyond names:

- torchvision orders the anchors of a cell by ratio, then by size; here they are ordered by size, then by ratio.
- torchvision's FCOS has no scales of levels; they are 1.

Legend: A anchors per cell, K classes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

LEVELS = ("p3", "p4", "p5", "p6", "p7")
ASPECT_RATIOS = (0.5, 1.0, 2.0)
ANCHOR_SIZES = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
"""Sides of the anchors of each level in px, as in torchvision's `_default_anchorgen`."""
_GEOMETRY: dict[str, dict[str, Any]] = {
    "retinanet": {
        "cell_offset": 0.0,
        "anchor_sizes": ANCHOR_SIZES,
        "round_anchors": True,
        "aspect_ratios": ASPECT_RATIOS,
    },
    "fcos": {"cell_offset": 0.0, "range_scale": 8.0},
}
_ANCHORS_PER_CELL = {"retinanet": 9, "fcos": 1}

_LAYERS = {
    "classification_head.conv": "class_tower",
    "classification_head.cls_logits": "class_output",
    "regression_head.conv": "box_tower",
    "regression_head.bbox_reg": "box_output",
    "regression_head.bbox_ctrness": "centerness_output",
}
_ROW_OUTPUTS = ("class_output", "box_output")
"""Layers whose outputs are ordered by anchor."""
_BLOCK = re.compile(r"(\d+)\.([01])\.(weight|bias)")
"""A layer of a tower of blocks; in FCOS, and in files of torchvision before 0.12, all layers have their own number."""


@dataclass(frozen=True)
class TorchvisionHead:
    """A head of torchvision under the names of this project.

    Attributes:
        name: of the head in documents.
        tensors: its state dict.
        num_classes: K, with the background and placeholders that it may have.
        settings: those of a document that gives tensors of these shapes.
        geometry: those without which the same tensors give other boxes.
    """

    name: str
    tensors: dict[str, Tensor]
    num_classes: int
    settings: dict[str, Any]
    geometry: dict[str, Any]

    def with_classes(self, rows: Sequence[int]) -> "TorchvisionHead":
        """Return the head with these of its classes, in this order."""
        tensors = dict(self.tensors)
        for key in ("class_output.weight", "class_output.bias"):
            by_class = tensors[key].reshape(-1, self.num_classes, *tensors[key].shape[1:])
            tensors[key] = by_class[:, list(rows)].flatten(0, 1)
        return replace(self, tensors=tensors, num_classes=len(rows))


def is_head(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict has a head of torchvision's RetinaNet or FCOS."""
    return "head.classification_head.cls_logits.weight" in state


def read_head(state: Mapping[str, Tensor]) -> TorchvisionHead:
    """Return the head of a torchvision detector, see `is_head`.

    Raises:
        ValueError: it has other anchors than torchvision's own, or an output layer is missing or damaged.
    """
    tensors = head_tensors(state)
    name = "fcos" if "level_scales" in tensors else "retinanet"
    anchors, expected = tensors["box_output.bias"].shape[0] // 4, _ANCHORS_PER_CELL[name]
    if anchors != expected:
        raise ValueError(f"its {name} head has {anchors} anchors per cell; only {expected} are supported")
    tower = [tensor for key, tensor in tensors.items() if key.startswith("class_tower.") and key.endswith(".weight")]
    has_norm = any(tensor.dim() == 1 for tensor in tower)
    settings = {
        "head": name,
        "levels": LEVELS,
        "num_convs": sum(tensor.dim() == 4 for tensor in tower),
        "norm": "gn" if has_norm else "none",
        "bias_before_norm": has_norm and "class_tower.0.bias" in tensors,
    }
    return TorchvisionHead(name, tensors, tensors["class_output.bias"].shape[0] // anchors, settings, _GEOMETRY[name])


def head_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors below `head.` of a torchvision detector under the names of this project's head.

    Raises:
        ValueError: an output layer is missing or damaged.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        for theirs, ours in _LAYERS.items():
            if key.startswith(prefix := f"head.{theirs}."):
                found[f"{ours}.{key.removeprefix(prefix)}"] = tensor
    has_norms = any((match := _BLOCK.search(key)) and match[2] == "1" for key in found)
    named = {_BLOCK.sub(lambda match: _flat_name(match, 3 if has_norms else 2), key): t for key, t in found.items()}
    _require_outputs(named)
    anchors = named["box_output.bias"].shape[0] // 4
    if anchors % len(ASPECT_RATIOS) == 0:
        for key in named:
            if key.startswith(_ROW_OUTPUTS):
                named[key] = _by_size(named[key], anchors)
    if "centerness_output.bias" in named:
        named["level_scales"] = torch.ones(len(LEVELS))
    return named


def _require_outputs(tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError if the output layers are not for the same anchors, with K and 4 rows for each."""
    num_classes, num_boxes = (_num_rows(tensors, layer) for layer in _ROW_OUTPUTS)
    if num_boxes == 0 or num_boxes % 4 or num_classes == 0 or num_classes % (num_boxes // 4):
        shapes = {key: list(tensor.shape) for key, tensor in tensors.items() if key.startswith(_ROW_OUTPUTS)}
        raise ValueError(
            f"its head is damaged: the shapes of its output layers are {shapes}; save the state dict again"
        )


def _num_rows(tensors: Mapping[str, Tensor], layer: str) -> int:
    """Return the number of outputs of a layer; 0 if weight or bias is missing, or they differ."""
    sizes = {
        tensors[key].shape[0] if key in tensors and tensors[key].dim() else 0
        for key in (f"{layer}.weight", f"{layer}.bias")
    }
    return sizes.pop() if len(sizes) == 1 else 0


def _flat_name(match: re.Match[str], layers_per_block: int) -> str:
    return f"{int(match[1]) * layers_per_block + int(match[2])}.{match[3]}"


def _by_size(tensor: Tensor, anchors: int) -> Tensor:
    """Return a tensor whose rows are ordered by ratio, size and output, ordered by size, ratio and output."""
    rows = tensor.reshape(len(ASPECT_RATIOS), anchors // len(ASPECT_RATIOS), -1, *tensor.shape[1:])
    return rows.transpose(0, 1).reshape(tensor.shape)
