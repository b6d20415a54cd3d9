"""The key map from the backbone and the pyramid of torchvision's detectors to those of this project."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from backbones.feature_extractor import IMAGENET_MEAN, IMAGENET_STD
from backbones.published_detectors import EPS
from backbones.weights import COUNTER

_LEVELS = re.compile(r"fpn\.(inner|layer)_blocks\.([012])\.(?:0\.)?(weight|bias)")
"""Without the number 0 in files of torchvision before 0.13."""


def is_pyramid(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict has a pyramid with the levels P6 and P7."""
    return "backbone.fpn.extra_blocks.p7.weight" in state


def neck_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a torchvision detector's pyramid under the names of `backbones.fpn.FPN`."""
    found: dict[str, Tensor] = {}
    for key, tensor in _below("backbone.", state).items():
        if match := _LEVELS.fullmatch(key):
            part = "lateral" if match[1] == "inner" else "smooth"
            found[f"{part}.c{int(match[2]) + 3}.{match[3]}"] = tensor
    return found | _below("backbone.fpn.extra_blocks.", state)


def neck_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings `model.neck` of a document that gives tensors of these shapes."""
    neck = neck_tensors(state)
    channels = neck["lateral.c3.weight"].shape[0]
    has_p5 = neck["p6.weight"].shape[1] == channels
    return {"channels": channels, "norm": "none", "p6_from": "p5" if has_p5 else "c5"}


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
