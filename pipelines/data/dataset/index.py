"""Build the data set in memory from the label files, and the report about it, in one pass. Torch-free."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.findings import Finding
from pipelines.base.records import SPLITS, BoxLabel, Category, DatasetIndex, ImageRecord, Split
from pipelines.data.dataset.categories import Declared, is_plain_id, merge_categories, numbered
from pipelines.data.dataset.checks.box_units import check_box_units
from pipelines.data.dataset.checks.duplicates import check_repeated_contents, fingerprint
from pipelines.data.dataset.checks.report import DataReport, ImageCounts, TaskCounts
from pipelines.data.dataset.checks.samplers import check_samplers
from pipelines.data.dataset.checks.tasks import check_tasks
from pipelines.data.dataset.clean import clean_boxes, clean_classes
from pipelines.data.dataset.listing import ListedImage, Listing, ReadLayer, list_images
from pipelines.formats.catalog import formats_that_give
from pipelines.formats.layer_content import FileBox
from pipelines.spec.job import JobSpec
from pipelines.tasks.base import TaskSpec
from pipelines.tasks.kinds import kind_of


@dataclass
class _Cleaned:
    """The usable labels of one image in one layer: boxes with their positions in the file, or classes."""

    read: ReadLayer
    num_boxes: int
    boxes: list[tuple[int, FileBox]] = field(default_factory=list)
    classes: list[str] | None = None


@dataclass
class _Image:
    """A listed image with its cleaned layers."""

    listed: ListedImage
    layers: list[_Cleaned]

    def of_task(self, task: str) -> list[_Cleaned]:
        """Return the layers that label a task."""
        return [cleaned for cleaned in self.layers if task in cleaned.read.layer.tasks]


def build_index(job: JobSpec, root: Path) -> tuple[DatasetIndex, DataReport]:
    """Return all labeled, readable images of all splits, and the report about everything that was read.

    Problems of the data are reported, not raised: if `report.errors` is not empty, the index must not be used.
    A split without files is missing in `records`. Records have a stable order: by source name, then file name.

    The image ids of the label files are kept if the job has one source and its ids are integers, unique over all
    splits (images without an id are then numbered from the largest id on); otherwise all images are numbered from 1
    over train, val and test. The same holds for the annotation ids of each task if they are positive; otherwise they
    number every annotation that was read.

    Raises:
        DataError: `root` is not a folder.
    """
    if not root.is_dir():
        raise DataError(FieldProblem("data.root", f"{root} is not a folder"))
    listing = list_images(job, root)
    report = DataReport(root=str(root), findings=listing.findings, layers=[read.counts for read in listing.layers])
    check_box_units(listing)
    images = [_clean(listed, listing.findings) for listed in listing.images]
    records = _records(images)
    for name, task in sorted(job.model.tasks.items()):
        report.tasks[name] = TaskCounts(kind_of(task).counted_labels)
        if _fits(name, task, listing):
            _label(name, task, images, records, report)
    labeled = [record for record in records.values() if record.labels]
    categories = {name: _categories(name, task, listing, labeled) for name, task in job.model.tasks.items()}
    for name, counts in report.tasks.items():
        counts.ids = {category.name: category.id for category in categories[name]}
        for category in categories[name]:
            counts.by_class.setdefault(category.name, Counter())
    splits = [split for split in SPLITS if any(read.split.split == split for read in listing.layers)]
    index = DatasetIndex(
        {split: [record for record in labeled if record.split == split] for split in splits}, categories
    )
    _count_images(job, listing, records, report, splits)
    check_repeated_contents(listing)
    check_tasks(job, listing, report)
    check_samplers(job, index.records.get("train", []), report)
    exif = {name: source.exif for name, source in job.data.sources.items()}
    report.fingerprints = {split: fingerprint(listing, index.records[split], exif) for split in splits}
    return index, report


def _fits(name: str, task: TaskSpec, listing: Listing) -> bool:
    """Return whether all layers of the task give the labels it needs, and report each layer that does not."""
    needed = kind_of(task).needed_labels(task)
    unsuitable = {
        id(read.layer): read for read in listing.layers if name in read.layer.tasks and not needed <= read.layer.GIVES
    }
    for read in unsuitable.values():
        message = (
            f"the task {name!r} learns from {' and '.join(sorted(needed))}, which the format {read.layer.format!r} "
            f"does not have; use one of {', '.join(formats_that_give(needed))}"
        )
        listing.findings.append(read.finding("wrong_layer", message))
    return not unsuitable


def _clean(listed: ListedImage, findings: list[Finding]) -> _Image:
    layers: list[_Cleaned] = []
    for read, labeled in listed.layers:
        num_boxes = len(labeled.boxes or [])
        if listed.facts is None:
            read.counts.unusable_image += num_boxes + len(labeled.classes or [])
            layers.append(_Cleaned(read, num_boxes))
        elif labeled.boxes is not None:
            size_hw = (listed.facts.height, listed.facts.width)
            boxes = clean_boxes(labeled, size_hw, read.layer.classes, read.counts, read.finding, findings)
            layers.append(_Cleaned(read, num_boxes, boxes))
        else:
            layers.append(_Cleaned(read, 0, classes=clean_classes(labeled, read.layer.classes, read.counts)))
    return _Image(listed, layers)


def _records(images: list[_Image]) -> dict[int, ImageRecord]:
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


def _label(
    name: str, task: TaskSpec, images: list[_Image], records: dict[int, ImageRecord], report: DataReport
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
        record.labels[name] = labels
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


def _annotation_numbers(name: str, images: list[_Image]) -> Iterator[int]:
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


def _box_labels(layers: list[_Cleaned], ids: list[int], identity_field: str | None) -> list[BoxLabel]:
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
    name: str, task: TaskSpec, image: _Image, layers: list[_Cleaned], findings: list[Finding]
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


def _categories(name: str, task: TaskSpec, listing: Listing, labeled: list[ImageRecord]) -> list[Category]:
    if kind_of(task).learns_identities:
        train = [label for record in labeled if record.split == "train" for label in record.labels.get(name, [])]
        found = {label if isinstance(label, str) else label.identity for label in train if not _is_crowd(label)}
        return numbered([identity for identity in found if identity is not None])
    layers = [read for read in listing.layers if name in read.layer.tasks]
    return merge_categories(
        [Declared(read.split.source_name, read.content.category_ids, read.layer.classes) for read in layers]
    )


def _is_crowd(label: BoxLabel | str) -> bool:
    return isinstance(label, BoxLabel) and label.is_crowd


def _count_images(
    job: JobSpec, listing: Listing, records: dict[int, ImageRecord], report: DataReport, splits: list[Split]
) -> None:
    """Count images by split; report images that no layer labels, and splits without labeled images."""
    report.images = {split: ImageCounts() for split in splits}
    for listed in listing.images:
        counts, record = report.images[listed.split], records.get(id(listed))
        counts.listed += 1
        if record is None:
            counts.unusable += 1
        elif record.labels:
            counts.in_index += 1
        else:
            counts.unlabeled += 1
            message = "is listed, but no layer labels it; it is skipped"
            read, labeled = listed.layers[0]
            listing.findings.append(read.finding("unlabelled_image", message, labeled))
    for split in SPLITS[:2]:
        if split not in report.images or not report.images[split].in_index:
            message = _empty_split_message(split, job, is_listed=split in report.images)
            listing.findings.append(Finding("empty_split", message, split=split))


def _empty_split_message(split: Split, job: JobSpec, *, is_listed: bool) -> str:
    if split == "train" or is_listed:
        return "the split has no readable image with labels"
    source = next(iter(job.data.sources))
    return (
        f"the data has no {split} split: run `pyramidion data split --config job.yaml`, or set "
        f"data.sources.{source}.splits.{split} to its name on disk"
    )
