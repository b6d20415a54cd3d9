"""Build the data set in memory from the label files, and the report about it, in one pass. Torch-free."""

import time
from collections import Counter
from pathlib import Path

from pipelines.base.errors import DataError, FieldProblem
from pipelines.base.garbage_collection import no_garbage_collection
from pipelines.base.packed_records import PackedRecords
from pipelines.base.records import SPLITS, BoxLabel, Category, DatasetIndex, ImageRecord
from pipelines.data.dataset.cache.whole_index import IndexCache
from pipelines.data.dataset.categories import Declared, merge_categories, numbered
from pipelines.data.dataset.checks.box_units import check_box_units
from pipelines.data.dataset.checks.duplicates import check_repeated_contents, fingerprint
from pipelines.data.dataset.checks.images import count_images
from pipelines.data.dataset.checks.pixels import check_pixels
from pipelines.data.dataset.checks.report import DataReport, TaskCounts
from pipelines.data.dataset.checks.samplers import check_samplers
from pipelines.data.dataset.checks.tasks import check_tasks
from pipelines.data.dataset.examination import (
    check_declared_sizes,
    check_unlisted_files,
    examine_listed,
    number_images,
)
from pipelines.data.dataset.labeling import clean_image, records_of, set_labels
from pipelines.data.dataset.listing import Listing, list_images
from pipelines.data.dataset.skipping import leave_out
from pipelines.formats.catalog import formats_that_give
from pipelines.spec.job import JobSpec
from pipelines.tasks.base import TaskSpec
from pipelines.tasks.kinds import kind_of


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
    cache, started = IndexCache.of(job, root), time.time()
    if (stored := cache.load()) is not None:
        return stored
    with no_garbage_collection():
        index, report = _read_data(job, root)
    cache.save(index, report, started)
    return index, report


def _read_data(job: JobSpec, root: Path) -> tuple[DatasetIndex, DataReport]:
    listing = list_images(job, root)
    examine_listed(listing, job.data.sources, root)
    leave_out(listing)
    check_declared_sizes(listing)
    number_images(listing)
    check_unlisted_files(listing, root)
    report = DataReport(root=str(root), findings=listing.findings, layers=[read.counts for read in listing.layers])
    check_box_units(listing)
    images = [clean_image(listed, listing.findings) for listed in listing.images]
    records = records_of(images)
    for name, task in sorted(job.model.tasks.items()):
        report.tasks[name] = TaskCounts(kind_of(task).counted_labels)
        if _fits(name, task, listing):
            set_labels(name, task, images, records, report)
    labeled = [record for record in records.values() if record.labels]
    categories = {name: _categories(name, task, listing, labeled) for name, task in job.model.tasks.items()}
    for name, counts in report.tasks.items():
        counts.ids = {category.name: category.id for category in categories[name]}
        for category in categories[name]:
            counts.by_class.setdefault(category.name, Counter())
    splits = [split for split in SPLITS if any(read.split.split == split for read in listing.layers)]
    by_split = {split: [record for record in labeled if record.split == split] for split in splits}
    count_images(job, listing, records, report, splits)
    check_repeated_contents(listing)
    check_pixels(listing, job.data.sources)
    check_tasks(job, listing, report)
    check_samplers(job, by_split.get("train", []), report)
    report.fingerprints = {split: fingerprint(listing, by_split[split], job.data.sources) for split in splits}
    packed = {split: PackedRecords.pack(split, of_split) for split, of_split in by_split.items()}
    return DatasetIndex(dict(packed), categories), report


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
