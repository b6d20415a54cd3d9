"""Checks of the tasks against the labels of all splits. Torch-free."""

from pipelines.base.findings import Finding
from pipelines.data.dataset.checks.report import DataReport, TaskCounts
from pipelines.data.dataset.listing import Listing
from pipelines.spec.job import JobSpec
from pipelines.tasks.kinds import kind_of


def check_tasks(job: JobSpec, listing: Listing, report: DataReport) -> None:
    """Report tasks without labels, categories that are unused or missing in train, and renames of unknown classes."""
    unlabeled = {task for read in listing.layers for task in read.layer.tasks if not report.tasks[task].labeled}
    for name, task in sorted(job.model.tasks.items()):
        counts = report.tasks[name]
        if not any(counter["train"] for counter in counts.by_class.values()):
            message = f"the task {name!r} has no label in train; label some images, or remove the task"
            if (identity := kind_of(task).identity_field(task)) is not None:
                message += f"; no annotation there has the field {identity!r} (model.tasks.{name}.identity)"
            listing.findings.append(Finding("no_labels", message, split="train"))
        for split in report.splits:
            if split != "train" and not any(counter[split] for counter in counts.by_class.values()):
                message = f"the task {name!r} has no label in {split}: its metrics there are null"
                listing.findings.append(Finding("no_labels_to_score", message, split=split))
        if name not in unlabeled:
            _check_categories(name, counts, report, listing)
    _check_renames(listing)


def _check_categories(name: str, counts: TaskCounts, report: DataReport, listing: Listing) -> None:
    for class_name, counter in counts.rows():
        if counter["train"]:
            continue
        others = [split for split in report.splits if counter[split]]
        if others:
            message = f"{class_name!r} of the task {name!r} is in {' and '.join(others)}, but not in train"
            listing.findings.append(Finding("not_in_train", message, split=others[0]))
        else:
            message = f"{class_name!r} of the task {name!r} is declared, but has no annotation other than crowd regions"
            listing.findings.append(Finding("unused_category", message))


def _check_renames(listing: Listing) -> None:
    seen: dict[int, set[str]] = {}
    for read in listing.layers:
        seen.setdefault(id(read.layer), set()).update(read.content.category_ids)
    for read in {id(read.layer): read for read in listing.layers}.values():
        for old in read.layer.classes:
            if old not in seen[id(read.layer)]:
                listing.findings.append(
                    Finding(
                        "unused_rename",
                        f"`classes` renames {old!r}, which no label of this layer has; "
                        f"its classes are {sorted(seen[id(read.layer)])}",
                        read.split.source_name,
                        file=read.layer.listing(read.split.images),
                    )
                )
