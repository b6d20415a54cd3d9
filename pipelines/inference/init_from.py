"""Initialize a new network from one that was trained before: `model.init_from`.

Tensors are copied where name and shape agree: those of the backbone (if at least half of them agree), of the neck, and
of the heads of tasks with the same name. From tensors that depend on the number of classes, the rows of classes with
the same name are copied: equal shapes do not mean equal classes. The other network may be a detector of torchvision
(see `pipelines.inference.torchvision_detectors`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from backbones.fpn import FPN
from backbones.weights import COUNTER
from heads.create import create_head
from heads.normalizer import MEAN_COUNTS
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.records import Category
from pipelines.inference.saved import SavedModel, read_saved
from pipelines.inference.torchvision_detectors import SavedDetector, for_document, read_detector
from pipelines.model import MultiTaskModel
from pipelines.spec.model import ModelSpec
from pipelines.spec.transfer import TOP_DOWN, frozen_parts

FIELD = "model.init_from"
NORMALIZATION = ("mean", "std")
"""Mean and standard deviation of the images, which are copied along with the backbone that was trained on them."""
_SHOWN = 5


@dataclass
class InitReport:
    """Report of the parts of a network that were initialized from another one.

    Attributes:
        name: of the other network.
        wanted: number of tensors of this network by part: `backbone`, `neck`, `heads.<task>`.
        taken: number of tensors that were copied, by part.
        notes: which classes are new, and why whole heads are new.
        shapes: tensors that stay new because their shape differs.
        unused: parts of the other network that this one does not have.
        warnings: results that are probably not intended.
    """

    name: str
    wanted: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def is_whole(self, part: str) -> bool:
        """Return whether every tensor of a part was copied, except for rows of new classes."""
        return self.taken[part] == self.wanted[part]

    def __str__(self) -> str:
        """Return one line with the parts that were taken and those that are new."""
        parts = sorted(self.wanted)
        whole = [part for part in parts if self.is_whole(part)]
        some = [part for part in parts if part not in whole and self.taken[part]]
        new = [f"{part} ({self.wanted[part]} tensors)" for part in parts if not self.taken[part]]
        clauses = [f"{', '.join(whole) or 'no whole part'} taken ({self.taken.total()} tensors in all)"]
        clauses += [f"{part} in part ({self.taken[part]} of {self.wanted[part]})" for part in some]
        clauses += [f"new: {', '.join(new)}"] if new else []
        clauses += [*self.notes, *self.shapes[:_SHOWN]]
        clauses += [f"and {len(self.shapes) - _SHOWN} more shapes"] if len(self.shapes) > _SHOWN else []
        clauses += [f"not used: {', '.join(self.unused)}"] if self.unused else []
        return f"init_from {self.name}: " + "; ".join(clauses)


def read_source(path: Path) -> SavedModel:
    """Return the network of a checkpoint, of an exported model, or of a file of torchvision.

    Raises:
        ConfigError: it has no network.
    """
    # Checkpoints of this project end in .ckpt and are large.
    if not path.is_file() or path.suffix == ".ckpt":
        return read_saved(path, FIELD)
    try:
        detector = read_detector(path)
    except ValueError as error:
        raise ConfigError(FieldProblem(FIELD, f"{path}: {error}")) from error
    return detector or read_saved(path, FIELD)


def initialize_from(
    model: MultiTaskModel,
    saved: SavedModel,
    spec: ModelSpec,
    categories: Mapping[str, Sequence[Category]],
    name: str,
) -> InitReport:
    """Copy the tensors of `saved` that fit into `model`, and return which ones; the rest of `model` stays unchanged.

    Args:
        model: the network that `spec` and `categories` describe.
        saved: the other network.
        spec: the document's `model`.
        categories: by task, the classes in the order of the labels.
        name: of `saved`, for messages.

    Raises:
        ConfigError: no tensor fits, or the document needs other settings for a detector of torchvision.
    """
    own, report = model.state_dict(), InitReport(name)
    warnings: list[str] = []
    if isinstance(saved, SavedDetector):
        saved, warnings = for_document(saved, spec, name)
    if saved.backbone not in (None, spec.backbone.label):
        report.notes.append(f"backbone: {saved.backbone} there, {spec.backbone.label} here")
    heads = {f"heads.{task}": _classes(task, categories[task], saved, spec, report) for task in sorted(spec.tasks)}
    axes = {key: axis for task in spec.tasks for key, axis in class_axes(model, spec, task, len(categories[task]))}
    fitting: dict[str, Tensor] = {}
    for key, tensor in own.items():
        part = _part_of(key)
        there, classes = saved.state.get(key), heads.get(part)
        if there is None and key.endswith((COUNTER, MEAN_COUNTS)):
            continue  # frozen norms lack the former, heads with another normalizer the latter; outputs need neither
        report.wanted[part] += 1
        if there is None or (part in heads and classes is None):
            continue
        if key in axes and classes is not None and classes.rows is not None:
            if not classes.rows:
                continue
            there = _rows_taken(tensor, there, axes[key], classes)
        if there is not None and there.shape == tensor.shape:
            fitting[key] = there
        else:
            report.shapes.append(f"{key}: shape {tuple(saved.state[key].shape)} there, {tuple(tensor.shape)} here")
    fits = Counter(_part_of(key) for key in fitting)
    # A few tensors of another architecture, or of other widths, always fit by chance.
    by_chance = {part for part in ("backbone", "neck") if 2 * fits[part] < report.wanted[part]}
    fitting = {key: tensor for key, tensor in fitting.items() if _part_of(key) not in by_chance}
    report.taken.update(_part_of(key) for key in fitting)
    report.unused = sorted({_part_of(key) for key in saved.state} - set(report.wanted))
    if not fitting:
        raise ConfigError(FieldProblem(FIELD, f"no tensor of {name} fits: {_compared(saved, spec)}"))
    model.load_state_dict(fitting, strict=False)
    report.warnings = [*warnings, *(f"{FIELD}: {warning}" for warning in _warnings(report, saved, spec))]
    return report


def _warnings(report: InitReport, saved: SavedModel, spec: ModelSpec) -> Iterator[str]:
    if not report.taken["backbone"]:
        yield (
            f"no tensor of the backbone is taken from {report.name}: {_compared(saved, spec)}; the parts that "
            "are taken were trained for the features of another backbone"
        )
    elif not report.is_whole("backbone"):
        yield f"{report.taken['backbone']} of {report.wanted['backbone']} tensors of the backbone fit and are taken"
    assert spec.unfreeze is not None
    never = frozenset.intersection(*(frozen_parts(spec, epoch) for epoch in spec.unfreeze))
    for part in sorted({"backbone" if part in TOP_DOWN else part for part in never}):
        if not report.is_whole(part) and (part != "backbone" or spec.backbone.weights == "none"):
            taken = f"{report.taken[part]} of {report.wanted[part]} tensors"
            yield f"{part} is frozen and takes {taken} from {report.name}: the others keep their random values"


@dataclass(frozen=True)
class ClassAxis:
    """The dimension of a tensor that holds the classes.

    It has `per_class` entries for each class, in sets (one for each anchor, for example) with one entry of every class,
    in the order of `heads.dense.flatten_levels`.
    """

    dim: int
    per_class: int


@dataclass(frozen=True)
class _Classes:
    """Numbers of classes here and in the other network; `rows` maps the former to the latter, None where unknown."""

    num_here: int
    num_there: int
    rows: Mapping[int, int] | None


def class_axes(model: MultiTaskModel, spec: ModelSpec, task: str, num_classes: int) -> Iterator[tuple[str, ClassAxis]]:
    """Yield the tensors of a task's head whose shape depends on the number of classes, by their name in the network.

    They are found by building the head with one more class.
    """
    assert isinstance(model.neck, FPN)
    levels = {**model.backbone.feature_specs, **model.neck.feature_specs}
    with torch.random.fork_rng(devices=[]):
        head = create_head(spec.tasks[task], level_specs=levels, num_classes=num_classes + 1)
    larger = head.state_dict()
    for key, own in model.heads[task].state_dict().items():
        shape = larger[key].shape
        for dim in range(own.dim()):
            if shape[dim] != own.shape[dim]:
                yield f"heads.{task}.{key}", ClassAxis(dim, shape[dim] - own.shape[dim])


def _classes(
    task: str, categories: Sequence[Category], saved: SavedModel, spec: ModelSpec, report: InitReport
) -> _Classes | None:
    """Return how the classes of a task map to those of the other network; None where its head is missing or differs."""
    part = f"heads.{task}"
    if not any(key.startswith(f"{part}.") for key in saved.state):
        return None
    kind, here = saved.head(task), spec.tasks[task].head
    if kind is not None and kind != here:
        report.notes.append(f"{part}: {kind} there, {here} here")
        return None
    if saved.categories is None or task not in saved.categories:
        report.notes.append(f"{part}: its classes there are unknown, and are treated as these where the shapes fit")
        return _Classes(len(categories), 0, None)
    there = {category.name: row for row, category in enumerate(saved.categories[task])}
    rows = {row: there[c.name] for row, c in enumerate(categories) if c.name in there}
    if new := [category.name for category in categories if category.name not in there]:
        report.notes.append(f"{part}: classes {_listed(new)} are new, {len(rows)} taken by name")
    elif list(rows.values()) != list(range(len(there))):
        report.notes.append(f"{part}: {len(rows)} of {len(there)} classes taken by name")
    return _Classes(len(categories), len(there), rows)


def _rows_taken(own: Tensor, there: Tensor, axis: ClassAxis, classes: _Classes) -> Tensor | None:
    """Return `own` with the rows of the classes that both have; None where the shapes differ in more than classes."""
    assert classes.rows is not None
    dim, per_class = axis.dim, axis.per_class
    expected = [*own.shape[:dim], per_class * classes.num_there, *own.shape[dim + 1 :]]
    if list(there.shape) != expected or own.shape[dim] != per_class * classes.num_here:
        return None
    taken = own.reshape(*own.shape[:dim], per_class, classes.num_here, *own.shape[dim + 1 :])
    source = there.to(own.dtype).reshape(*own.shape[:dim], per_class, classes.num_there, *own.shape[dim + 1 :])
    here_rows, there_rows = torch.tensor(list(classes.rows)), torch.tensor(list(classes.rows.values()))
    taken = taken.index_copy(dim + 1, here_rows, source.index_select(dim + 1, there_rows))
    return taken.reshape(own.shape)


def _part_of(key: str) -> str:
    first, _, rest = key.partition(".")
    if first in NORMALIZATION:
        return "backbone"
    return f"heads.{rest.partition('.')[0]}" if first == "heads" else first


def _compared(saved: SavedModel, spec: ModelSpec) -> str:
    tasks = sorted({_part_of(key).removeprefix("heads.") for key in saved.state if key.startswith("heads.")})
    return (
        f"it has the backbone {saved.backbone or '(unknown)'} and the tasks {', '.join(tasks)}; this document has "
        f"{spec.backbone.label} and {', '.join(sorted(spec.tasks))}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    )
