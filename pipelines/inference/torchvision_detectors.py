"""torchvision's RetinaNet and FCOS (ResNet-50, levels P3 to P7) as models to start from."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from backbones.catalog.lookup import resolve
from backbones.published_detectors import coco_classes, norm_eps
from backbones.weights import read_tensors
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import Category
from pipelines.inference.saved import SavedModel
from pipelines.inference.torchvision_keys import (
    backbone_tensors,
    head_tensors,
    neck_tensors,
    normalization_tensors,
)
from pipelines.spec.model import ModelSpec

BACKBONE = "resnet50"
PLACEHOLDERS = ("__background__", "N/A")
ANCHOR_SIZES = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
"""Sides of the anchors of each level in px, as in torchvision's `_default_anchorgen`."""
LEVELS = ("p3", "p4", "p5", "p6", "p7")
GEOMETRY: dict[str, dict[str, Any]] = {
    "retinanet": {
        "cell_offset": 0.0,
        "anchor_sizes": ANCHOR_SIZES,
        "round_anchors": True,
        "aspect_ratios": (0.5, 1.0, 2.0),
    },
    "fcos": {"cell_offset": 0.0, "range_scale": 8.0},
}
"""By head, the settings without which the same tensors give other boxes."""


def is_detector(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict has the names of torchvision's RetinaNet or FCOS."""
    return "head.classification_head.cls_logits.weight" in state and "backbone.fpn.extra_blocks.p7.weight" in state


def read_detector(path: Path) -> SavedModel | None:
    """Return the content of a file of torchvision as a model with one task, which is named like its head.

    The result is None if the file is not a state dict of a RetinaNet or FCOS.

    Raises:
        ValueError: the file cannot be read, or the detector is not supported.
    """
    state = read_tensors(path)
    return saved_detector(state, eps=norm_eps(path)) if is_detector(state) else None


def saved_detector(state: Mapping[str, Tensor], *, eps: float) -> SavedModel:
    """Return a state dict of torchvision as a model with one task, which is named like its head.

    `model` of the result has the settings of a document that gives the same outputs.

    Args:
        state: see `is_detector`.
        eps: epsilon of its norms.

    Raises:
        ValueError: the detector is not supported.
    """
    head, neck = head_tensors(state), neck_tensors(state)
    task = "fcos" if "level_scales" in head else "retinanet"
    num_anchors = head["box_output.bias"].shape[0] // 4
    if num_anchors != (expected := 1 if task == "fcos" else 9):
        raise ValueError(f"its {task} head has {num_anchors} anchors per cell; {expected} are supported")
    categories = None
    if head["class_output.bias"].shape[0] == num_anchors * len(coco_classes()):
        kept = [row for row, name in enumerate(coco_classes()) if name not in PLACEHOLDERS]
        categories = {task: [Category(row, coco_classes()[row]) for row in kept]}
        for key in ("class_output.weight", "class_output.bias"):
            rows = head[key].reshape(num_anchors, len(coco_classes()), *head[key].shape[1:])
            head[key] = rows[:, kept].flatten(0, 1)
    tensors = normalization_tensors()
    tensors |= {f"backbone.body.network.{key}": tensor for key, tensor in backbone_tensors(state, eps=eps).items()}
    tensors |= {f"neck.{key}": tensor for key, tensor in neck.items()}
    tensors |= {f"heads.{task}.{key}": tensor for key, tensor in head.items()}
    channels = neck["lateral.c3.weight"].shape[0]
    settings = {
        "backbone": {"name": BACKBONE},
        "neck": {
            "channels": channels,
            "norm": "none",
            "p6_from": "p5" if neck["p6.weight"].shape[1] == channels else "c5",
        },
        "tasks": {task: {"head": task, "levels": LEVELS, **_tower_settings(head, task), **GEOMETRY[task]}},
    }
    return SavedModel(tensors, categories, settings, is_published=True)


def _tower_settings(head: Mapping[str, Tensor], task: str) -> dict[str, Any]:
    weights = [tensor for key, tensor in head.items() if key.startswith("class_tower.") and key.endswith(".weight")]
    has_norm = any(tensor.dim() == 1 for tensor in weights)
    return {
        "num_convs": sum(tensor.dim() == 4 for tensor in weights),
        "norm": "gn" if has_norm else "none",
        "bias_before_norm": has_norm and "class_tower.0.bias" in head,
    }


def for_document(saved: SavedModel, spec: ModelSpec, name: str) -> tuple[SavedModel, list[str]]:
    """Return a detector of torchvision under the names of the document's tasks with its head, and warnings.

    Without such a task, its head is not used.

    Args:
        saved: as `saved_detector` returns it.
        spec: the document's `model`.
        name: of the file, for messages.

    Raises:
        ConfigError: settings of the document give tensors of other shapes.
    """
    (head,) = saved.model["tasks"]
    tasks = [task for task, of_task in sorted(spec.tasks.items()) if of_task.head == head]
    theirs = saved.model["tasks"][head]
    problems, warnings = list(_backbone_problems(spec, name)), []
    differences = [("model.neck", *row) for row in _differences(spec.neck, saved.model["neck"])]
    for task in tasks:
        differences += [(f"model.tasks.{task}", *row) for row in _differences(spec.tasks[task], theirs)]
    for section, field, value, wanted in differences:
        message = f"got {_written(value)}, but {name} was trained with {_written(wanted)}"
        if field in GEOMETRY[head] and section != "model.neck":
            warnings.append(f"{section}.{field}: {message}: its boxes start displaced; write {_written(wanted)}")
        else:
            problems.append(FieldProblem(f"{section}.{field}", f"{message}; write {_written(wanted)}"))
    if problems:
        raise ConfigError(problems)
    prefix = f"heads.{head}."
    state = {key: tensor for key, tensor in saved.state.items() if not key.startswith(prefix)}
    of_head = {key.removeprefix(prefix): t for key, t in saved.state.items() if key.startswith(prefix)}
    state |= {f"heads.{task}.{key}": tensor for task in tasks or [head] for key, tensor in of_head.items()}
    categories = None
    if saved.categories is not None:
        categories = dict.fromkeys(tasks, saved.categories[head])
    model = {**saved.model, "tasks": dict.fromkeys(tasks, theirs)}
    return replace(saved, state=state, categories=categories, model=model), warnings


def _backbone_problems(spec: ModelSpec, name: str) -> Iterator[FieldProblem]:
    row = resolve(spec.backbone.network)
    if row.source not in ("timm", "tv") or row.id.partition(".")[0] != BACKBONE:
        yield FieldProblem(
            "model.backbone.name",
            f"got {spec.backbone.label!r}, but {name} was trained with {BACKBONE}; write {BACKBONE}",
        )


def _differences(section: Any, wanted: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield field, value and wanted value of each setting that differs."""
    for field, value in wanted.items():
        if (own := getattr(section, field, value)) != value:
            yield field, own, value


def _written(value: Any) -> str:
    """Return a value as a document writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
