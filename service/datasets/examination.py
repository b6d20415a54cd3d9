"""Recognize the format of a data set, draft a document, and check the data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, DataError, FieldProblem
from pipelines.base.records import DatasetIndex
from pipelines.data.dataset.checks.report import DataReport
from pipelines.data.dataset.index import build_index
from pipelines.data.drafting.commands import init_document
from pipelines.data.drafting.readings import choose, find_readings
from pipelines.data.drafting.source_document import document_of_sources
from pipelines.formats.folder_contents import FolderContents
from pipelines.spec.job import JobSpec
from pipelines.spec.load import Document, read_document, validate_document, write_yaml

NO_VAL = "has no val split, which training needs; give sources with a val split, or upload more images"
NO_LABELS = "has no labels, so it can be used for predictions only"
SKIPS = "has images that cannot be used, which the drafted document leaves out (data.on_error: skip)"


@dataclass(frozen=True)
class Examination:
    """A data set that was read.

    Attributes:
        is_ready: whether jobs can use it.
        message: a restriction, or the reason why it is not ready.
        job: reads the data; None for images without labels.
        document: the same as written, with `data.root`.
        images: files without labels, relative to the folder.
    """

    is_ready: bool
    message: str | None = None
    job: JobSpec | None = None
    document: Document | None = None
    index: DatasetIndex | None = None
    report: DataReport | None = None
    images: tuple[str, ...] = ()


def examine(files: Path, document_path: Path, sources: dict[str, Any] | None, *, may_write: bool) -> Examination:
    """Read all of a data set and return what was found.

    Args:
        files: the data.
        document_path: where a draft is written.
        sources: how the data is read; None: the format is recognized.
        may_write: whether files may be added to `files`: names of classes, and a division into splits.

    Raises:
        ConfigError: the format is not recognized, or `sources` is invalid.
    """
    if sources is not None:
        document = document_of_sources(sources)
        document_path.write_text(write_yaml(document), "utf-8")
    else:
        images = FolderContents(files).images
        try:
            document = _draft(files, document_path, may_write=may_write)
        except DataError:
            if images and not _readings_exist(files):
                return Examination(True, NO_LABELS, images=tuple(images))
            raise
    return _check(document, files)


def _draft(files: Path, document_path: Path, *, may_write: bool) -> Document:
    if not may_write and (missing := choose(find_readings(files), None).new_files):
        names = ", ".join(sorted(missing))
        raise DataError(FieldProblem(names, "is missing, and this format needs it; add it to the folder"))
    try:
        init_document(files, document_path, divide=may_write, force=True)
    except ConfigError:
        if not document_path.exists():
            raise
        # There are too few images to divide them: the document lacks a val split.
    return read_document(str(document_path))


def _readings_exist(files: Path) -> bool:
    try:
        return bool(find_readings(files))
    except DataError:
        return False


def _check(document: Document, files: Path) -> Examination:
    job = validate_document(document)
    index, report = build_index(job, files)
    message = None
    if report.errors and report.remedy is not None:
        skipping = {**document, "data": {**document["data"], "on_error": "skip"}}
        skipping_job = validate_document(skipping)
        found_index, found = build_index(skipping_job, files)
        if not _other_errors(found_index, found):
            document, job, index, report, message = skipping, skipping_job, found_index, found, SKIPS
    is_ready = not _other_errors(index, report)
    if not is_ready:
        message = "has errors that stop a run, see problems; correct them and upload the data set again"
    elif not index.records.get("val"):
        message = NO_VAL
    return Examination(is_ready, message, job, document, index, report)


def _other_errors(index: DatasetIndex, report: DataReport) -> bool:
    """Return whether there are errors other than a missing val split."""
    has_val = bool(index.records.get("val"))
    return any(finding.split != "val" or has_val for finding in report.errors)
