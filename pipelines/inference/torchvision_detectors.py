"""torchvision's RetinaNet and FCOS (ResNet-50, levels P3 to P7) as models to start from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from backbones.catalog.lookup import resolve
from backbones.published_detectors import coco_classes, norm_eps
from backbones.torchvision_keys import backbone_tensors, is_pyramid, neck_settings, neck_tensors, normalization_tensors
from backbones.weights import read_tensors
from heads.torchvision_heads import is_head, read_head
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import Category
from pipelines.inference.saved import SavedModel
from pipelines.spec.model import ModelSpec

BACKBONE = "resnet50"
PLACEHOLDERS = ("__background__", "N/A")


@dataclass(frozen=True)
class SavedDetector(SavedModel):
    """A detector of torchvision as a model with one task, which is named like its head.

    `model` has the settings of a document that gives the same outputs.

    Attributes:
        geometry: fields of its task that change no tensor, but its boxes.
    """

    geometry: frozenset[str] = frozenset()


def read_detector(path: Path) -> SavedDetector | None:
    """Return the detector in a file of torchvision; None if the file is not a state dict of a RetinaNet or FCOS.

    Raises:
        ValueError: the file cannot be read, or the detector is not supported.
    """
    state = read_tensors(path)
    return saved_detector(state, eps=norm_eps(path)) if is_head(state) and is_pyramid(state) else None


def saved_detector(state: Mapping[str, Tensor], *, eps: float) -> SavedDetector:
    """Return a state dict of torchvision as a model of this project.

    Args:
        state: of a RetinaNet or FCOS.
        eps: epsilon of its norms.

    Raises:
        ValueError: the detector is not supported.
    """
    head, classes = read_head(state), coco_classes()
    categories = None
    if head.num_classes == len(classes):
        kept = [row for row, name in enumerate(classes) if name not in PLACEHOLDERS]
        categories = {head.name: [Category(row, classes[row]) for row in kept]}
        head = head.with_classes(kept)
    tensors = normalization_tensors()
    tensors |= {f"backbone.body.network.{key}": tensor for key, tensor in backbone_tensors(state, eps=eps).items()}
    tensors |= {f"neck.{key}": tensor for key, tensor in neck_tensors(state).items()}
    tensors |= {f"heads.{head.name}.{key}": tensor for key, tensor in head.tensors.items()}
    settings = {
        "backbone": {"name": BACKBONE},
        "neck": neck_settings(state),
        "tasks": {head.name: {**head.settings, **head.geometry}},
    }
    return SavedDetector(tensors, categories, settings, geometry=frozenset(head.geometry))


def for_document(saved: SavedDetector, spec: ModelSpec, name: str) -> tuple[SavedDetector, list[str]]:
    """Return a detector of torchvision under the names of the document's tasks with its head, and warnings.

    Without such a task, its head is not used.

    Args:
        saved: the detector.
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
        if field in saved.geometry:
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
