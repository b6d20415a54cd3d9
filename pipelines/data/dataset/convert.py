"""Write the data of a job in another label format. Torch-free."""

import itertools
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.base.causes import causes_of
from pipelines.base.errors import ConfigError, DataError, FieldProblem
from pipelines.base.records import BoxLabel, DatasetIndex, Split
from pipelines.data.dataset.categories import numbered
from pipelines.data.dataset.index import build_index
from pipelines.data.dataset.new_folder import new_folder, require_new
from pipelines.formats.catalog import FORMATS, WRITERS, name_of
from pipelines.formats.writer import LabelWriter, WritableData, WrittenImage
from pipelines.run_folder.layout import JOB_YAML
from pipelines.spec.job import JobSpec
from pipelines.spec.load import Document, write_yaml
from pipelines.tasks.kinds import kind_of

_HARMLESS = frozenset({"empty_split", "no_labels", "too_few_identities"})
"""Errors that stop a training, but not a conversion."""
_OF_THE_FORMAT = frozenset({"images", "labels", "splits", "split_file", "sampler"})
"""Fields of a source that are written anew; the others are kept."""


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion: the document, the number of images by split, and what the format cannot express."""

    document: dict[str, Any]
    num_images: dict[Split, int]
    num_boxes: int
    lost: Counter[str]


def convert(
    job: JobSpec,
    root: Path,
    out: Path,
    to: str,
    task: str | None = None,
    *,
    link: bool = False,
    given: Document | None = None,
) -> Conversion:
    """Write images, label files and a document to `out`; boxes are clipped and classes renamed as for training.

    Args:
        job: the document of the data.
        root: the data.
        out: a new or empty folder; it is complete when it has its document.
        to: the name of a format that can be written.
        task: a task with boxes; None: the only one.
        link: make hard links to the images instead of copies.
        given: the document as the user wrote it, whose settings of the training are kept.

    Raises:
        ConfigError: `out` is not empty or cannot be written, `to` or `task` is unknown, `to` cannot contain a name, or
            sources have different settings for their images.
        DataError: the data has errors.
    """
    if to not in WRITERS:
        raise ConfigError(FieldProblem("--to", f"got {to!r}; choose one of {', '.join(WRITERS)}"))
    require_new(out, "--out")
    tasks = _tasks_to_write(job, _task_with_boxes(job, task), to)
    source = _source_settings(job)
    index, report = build_index(job, root)
    if errors := [finding for finding in report.errors if finding.kind not in _HARMLESS]:
        raise DataError([FieldProblem("", cause.describe()) for cause in causes_of(errors)])
    writer = WRITERS[to]()
    with new_folder(out, "--out", last=JOB_YAML) as unfinished:
        data = _writable(job, tasks, index, unfinished, writer)
        _check_texts(data, writer, to)
        _copy_images(data, writer, link=link)
        layer = {**writer.write(data), "tasks": list(tasks)}
        document = _document(job, given or {}, out, tasks, {**source, "images": writer.IMAGES, "labels": [layer]})
        (unfinished / JOB_YAML).write_text(write_yaml(document), encoding="utf-8")
    num_boxes = sum(len(image.boxes) for image in data.all_images())
    return Conversion(document, {split: len(images) for split, images in data.images.items()}, num_boxes, +data.lost)


def _task_with_boxes(job: JobSpec, task: str | None) -> str:
    """Return the task to convert: the given one, or the only one with boxes, or the only one with nothing but boxes."""
    needs = {name: kind_of(spec).needed_labels(spec) for name, spec in job.model.tasks.items()}
    with_boxes = [name for name, labels in needs.items() if "boxes" in labels]
    if task is not None:
        if task not in with_boxes:
            message = f"got {task!r}; choose a task that learns from boxes: {', '.join(with_boxes) or 'there is none'}"
            raise ConfigError(FieldProblem("--task", message))
        return task
    plain = [name for name in with_boxes if needs[name] == {"boxes"}]
    for candidates in (with_boxes, plain):
        if len(candidates) == 1:
            return candidates[0]
    message = f"choose the task whose boxes are written: {', '.join(with_boxes)}"
    if not with_boxes:
        message = "the job has no task that learns from boxes; only boxes can be converted"
    raise ConfigError(FieldProblem("--task", message))


def _tasks_to_write(job: JobSpec, task: str, to: str) -> tuple[str, ...]:
    """Return the tasks that learn from the same layers and that the format has all labels for.

    Tasks with another identity field than the first one are left to another conversion.

    Raises:
        ConfigError: the format lacks labels of the task, and no other task has the same boxes.
    """
    specs = job.model.tasks
    layers = {
        name: [layer for one in job.data.sources.values() for layer in one.labels if name in layer.tasks]
        for name in specs
    }
    gives = next(layer.GIVES for layer in FORMATS if name_of(layer) == to)
    fitting: list[str] = []
    fields: set[str] = set()
    for name in sorted(specs, key=lambda name: name != task):
        needed, field = (
            kind_of(specs[name]).needed_labels(specs[name]),
            kind_of(specs[name]).identity_field(specs[name]),
        )
        is_same = "boxes" in needed and list(map(id, layers[name])) == list(map(id, layers[task]))
        if is_same and needed <= gives and (field is None or not fields or field in fields):
            fitting.append(name)
            fields |= {field} if field is not None else set()
    if not fitting:
        message = f"{task!r} learns from {' and '.join(sorted(kind_of(specs[task]).needed_labels(specs[task])))}"
        raise ConfigError(FieldProblem("--to", f"got {to!r}, but {message}; choose a format that has them"))
    return tuple(fitting)


def _source_settings(job: JobSpec) -> dict[str, Any]:
    """Return the settings that all sources share and that describe their images, such as `exif`."""
    given = [source.model_dump(mode="json", exclude_unset=True) for source in job.data.sources.values()]
    settings = [{key: value for key, value in source.items() if key not in _OF_THE_FORMAT} for source in given]
    if len(settings) > 1:
        settings = [{key: value for key, value in one.items() if key != "batch_size"} for one in settings]
    if any(one != settings[0] for one in settings):
        message = "the sources have different settings for their images; convert them one by one"
        raise ConfigError(FieldProblem("data.sources", message))
    return settings[0]


def _writable(
    job: JobSpec, tasks: tuple[str, ...], index: DatasetIndex, out: Path, writer: LabelWriter
) -> WritableData:
    """Return the labels of the tasks as they are written, and count labels that are not written."""
    kinds = {name: kind_of(job.model.tasks[name]) for name in tasks}
    fields = {name: kinds[name].identity_field(job.model.tasks[name]) for name in tasks}
    task = next((name for name in tasks if fields[name] is not None), tasks[0])
    lost: Counter[str] = Counter()
    images: dict[Split, list[WrittenImage]] = {}
    taken: set[tuple[str, str]] = set()
    has_many_sources = len(job.data.sources) > 1
    for split, records in index.records.items():
        for record in records:
            for other, labels in record.labels.items():
                if other not in tasks:
                    lost[f"labels of the task {other!r}"] += len(labels)
            if task not in record.labels:
                lost["images without labels for the task"] += 1
                continue
            given = f"{record.source}/{record.file_name}" if has_many_sources else record.file_name
            name = _free_name(writer.valid_name(given), split if "{split}" in writer.IMAGES else "", taken)
            lost["names of images (changed)"] += name != record.file_name
            boxes = [label for label in record.labels[task] if isinstance(label, BoxLabel)]
            images.setdefault(split, []).append(WrittenImage(record, name, boxes))
    declared = next((index.categories[name] for name in tasks if not kinds[name].learns_identities), None)
    names = {box.category for images_of in images.values() for image in images_of for box in image.boxes}
    return WritableData(out, numbered(names) if declared is None else declared, images, fields[task], lost)


def _free_name(name: str, folder: str, taken: set[tuple[str, str]]) -> str:
    """Return a name whose stem is free, because label files are named after it, and take it."""
    stem, dot, suffix = name.rpartition(".")
    numbers = itertools.count(2)
    free = stem
    while (folder, free) in taken:
        free = f"{stem}_{next(numbers)}"
    taken.add((folder, free))
    return f"{free}{dot}{suffix}"


def _check_texts(data: WritableData, writer: LabelWriter, to: str) -> None:
    """Refuse names of classes and identities that the files of the format would change."""
    texts = {category.name for category in data.categories}
    texts |= {box.identity for image in data.all_images() for box in image.boxes if box.identity is not None}
    if changed := sorted(text for text in texts if not writer.keeps(text)):
        message = f"files of the format {to!r} cannot contain the name {changed[0]!r} ({len(changed)} such names)"
        raise ConfigError(FieldProblem("--to", f"{message}; rename classes with `classes` of their layer"))


def _copy_images(data: WritableData, writer: LabelWriter, *, link: bool) -> None:
    copy = os.link if link else shutil.copyfile
    for split, images in data.images.items():
        for image in images:
            path = data.root / writer.IMAGES.replace("{split}", split) / image.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                copy(image.record.path, path)
            except OSError as error:
                if not link:
                    raise
                message = f"{image.record.path} cannot be linked ({error.strerror}); copy the images: omit --link"
                raise ConfigError(FieldProblem("--out", message)) from None


def _document(
    job: JobSpec, given: Document, out: Path, tasks: tuple[str, ...], source: dict[str, Any]
) -> dict[str, Any]:
    """Return the given document with the new data.

    Settings that may refer to an omitted task or source are not kept.
    """
    name = next(iter(job.data.sources)) if len(job.data.sources) == 1 else "all"
    data = {"root": out.resolve().name, "sources": {name: source}}
    kept = {key: value for key, value in (given.get("data") or {}).items() if key not in (*data, "mix")}
    model = {
        "backbone": job.model.backbone.model_dump(mode="json", exclude_unset=True),
        "tasks": {name: job.model.tasks[name].model_dump(mode="json", exclude_unset=True) for name in tasks},
    }
    if set(tasks) == set(job.model.tasks):
        model = (given.get("model") or {}) | model
    return {"name": job.name, **given, "model": model, "data": {**kept, **data}}
