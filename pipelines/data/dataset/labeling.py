"""Labels of all tasks for the listed images: cleaned, numbered and counted. Torch-free."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipelines.base.findings import Finding
from pipelines.base.records import BoxLabel, ImageRecord, Split
from pipelines.data.dataset.categories import is_plain_id
from pipelines.data.dataset.checks.report import DataReport, TaskCounts
from pipelines.data.dataset.clean import clean_boxes, clean_classes
from pipelines.data.dataset.listing import ListedImage, ReadLayer
from pipelines.formats.layer_content import FileBox
from pipelines.tasks.base import TaskSpec
from pipelines.tasks.kinds import kind_of


@dataclass
class CleanedLayer:
    """The usable labels of one image in one layer: boxes with their positions in the file, or classes."""

    read: ReadLayer
    num_boxes: int
    boxes: list[tuple[int, FileBox]] = field(default_factory=list)
    classes: list[str] | None = None


@dataclass
class CleanedImage:
    """A listed image with its cleaned layers."""

    listed: ListedImage
    layers: list[CleanedLayer]

    def of_task(self, task: str) -> list[CleanedLayer]:
        """Return the layers that label a task."""
        return [cleaned for cleaned in self.layers if task in cleaned.read.layer.tasks]


def clean_image(listed: ListedImage, findings: list[Finding]) -> CleanedImage:
    """Return an image with its cleaned layers; their counts and findings are added to."""
    layers: list[CleanedLayer] = []
    for read, labeled in listed.layers:
        num_boxes = len(labeled.boxes or [])
        if listed.facts is None:
            read.counts.unusable_image += num_boxes + len(labeled.classes or [])
            layers.append(CleanedLayer(read, num_boxes))
        elif labeled.boxes is not None:
            size_hw = (listed.facts.height, listed.facts.width)
            boxes = clean_boxes(labeled, size_hw, read.layer.classes, read.counts, read.finding, findings)
            layers.append(CleanedLayer(read, num_boxes, boxes))
        else:
            layers.append(CleanedLayer(read, 0, classes=clean_classes(labeled, read.layer.classes, read.counts)))
    return CleanedImage(listed, layers)


def records_of(images: list[CleanedImage]) -> dict[int, ImageRecord]:
    """Return a record without labels for every usable image, by the `id()` of its listing."""
    records: dict[int, ImageRecord] = {}
    for image in images:
        listed = image.listed
        if listed.path is not None and listed.facts is not None:
            records[id(listed)] = ImageRecord(
                image_id=listed.image_id,
                source=listed.source,
                split=listed.split,
                file_name=listed.file_name,
                path=listed.path,
                height=listed.facts.height,
                width=listed.facts.width,
            )
    return records


def set_labels(
    name: str, task: TaskSpec, images: list[CleanedImage], records: dict[int, ImageRecord], report: DataReport
) -> None:
    """Set the labels of one task in every record, and count them."""
    counts = report.tasks[name]
    identity_field = kind_of(task).identity_field(task)
    numbers = _annotation_numbers(name, images)
    for image in images:
        layers = image.of_task(name)
        record = records.get(id(image.listed))
        labels: list[BoxLabel] | list[str] | None
        if "boxes" in kind_of(task).needed_labels(task):
            ids = [next(numbers) for layer in layers for _ in range(layer.num_boxes)]
            labels = _box_labels(layers, ids, identity_field) if layers else None
        else:
            labels = _class_labels(name, task, image, layers, report.findings)
        if record is None:
            continue
        if labels is None:
            counts.unlabeled[record.split] += 1
            continue
        record.labels = {**record.labels, name: labels}
        counts.labeled[record.split] += 1
        counts.empty[record.split] += not labels
        _count_labels(counts, record.split, labels, is_identity=identity_field is not None)


def _count_labels(counts: TaskCounts, split: Split, labels: Sequence[BoxLabel | str], *, is_identity: bool) -> None:
    for label in labels:
        if isinstance(label, str):
            class_name: str | None = label
        elif label.is_crowd:
            counts.crowd[split] += 1
            continue
        else:
            class_name = label.identity if is_identity else label.category
        if class_name is None:
            counts.without_identity[split] += 1
        else:
            counts.by_class.setdefault(class_name, Counter())[split] += 1


def _annotation_numbers(name: str, images: list[CleanedImage]) -> Iterator[int]:
    """Return the ids of all annotations of a task in order: those of the files, or numbers from 1."""
    file_ids = [
        box.annotation_id
        for image in images
        for (read, labeled) in image.listed.layers
        if name in read.layer.tasks
        for box in labeled.boxes or []
    ]
    is_kept = (
        len({image.listed.source for image in images}) == 1
        and all(is_plain_id(file_id, smallest=1) for file_id in file_ids)
        and len(set(file_ids)) == len(file_ids)
    )
    return iter(
        [int(file_id) for file_id in file_ids if file_id is not None] if is_kept else range(1, len(file_ids) + 1)
    )


def _box_labels(layers: list[CleanedLayer], ids: list[int], identity_field: str | None) -> list[BoxLabel]:
    labels: list[BoxLabel] = []
    start = 0
    for layer in layers:
        labels += [
            BoxLabel(
                annotation_id=ids[start + position],
                category=box.category,
                bbox_xywh=box.bbox_xywh,
                is_crowd=box.is_crowd,
                area=box.area,
                identity=None if identity_field is None else box.identities.get(identity_field),
                is_difficult=box.is_difficult,
            )
            for position, box in layer.boxes
        ]
        start += layer.num_boxes
    return labels


def _class_labels(
    name: str, task: TaskSpec, image: CleanedImage, layers: list[CleanedLayer], findings: list[Finding]
) -> list[str] | None:
    """Return the classes of an image; None if no layer labels it, or all are dropped and the task needs one."""
    named = [layer.classes for layer in layers if layer.classes is not None]
    classes = list(dict.fromkeys(class_name for classes in named for class_name in classes))
    if kind_of(task).takes_many_classes(task):
        return classes if named else None
    if len(classes) > 1:
        message = f"has the classes {classes}; {name!r} takes exactly one per image"
        findings.append(layers[0].read.finding("ambiguous_class", message, image.listed.layers[0][1]))
    return classes if len(classes) == 1 else None
