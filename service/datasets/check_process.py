"""`python -m service.datasets.check_process FOLDER`: extract and check one data set.

It reads `request.json` in the folder and writes all other files. The exit code is 0 if `check.json` was written,
whatever it says about the data, and 75 if the check has to be repeated; the last line of its output is the reason then.
"""

import argparse
import json
import os
import resource
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipelines.base.errors import DISK_FULL_ERRNOS, ConfigError, ExitCode
from pipelines.base.paths import IMAGE_SUFFIXES
from pipelines.command_line.predicted_images import find_images
from pipelines.data.dataset.roots import find_root
from pipelines.run_folder.files import write_atomic
from service.child_process import die_with_parent
from service.datasets.archives import extract_archive
from service.datasets.errors import ArchiveInvalid, DatasetError
from service.datasets.examination import Examination, examine
from service.datasets.extraction import Extracted, ExtractionLimits
from service.datasets.folder import ARCHIVES, CheckRequest, CheckSummary, DatasetFolder
from service.datasets.listing import list_folder
from service.datasets.statistics import finding_groups, task_statistics
from service.datasets.thumbnails import labeled_pictures, plain_pictures, write_thumbnails
from service.disk_space import DiskAlmostFull, require_free_space
from service.settings import Settings
from service.storage.base import ArchiveDamaged, ArchiveKey, ArchiveMissing, StorageFull, StorageUnavailable
from service.storage.opening import open_storage

MAX_PROBLEMS = 50


def main(argv: Sequence[str] | None = None) -> int:
    """Check the data set of a folder."""
    parser = argparse.ArgumentParser(prog="service.datasets.check_process", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = DatasetFolder(parser.parse_args(argv).folder)
    die_with_parent()
    settings = Settings()
    resource.setrlimit(resource.RLIMIT_AS, (settings.dataset_check_bytes, settings.dataset_check_bytes))
    request = CheckRequest.model_validate_json(folder.request.read_bytes())
    try:
        summary = check(request, folder, settings)
    except (StorageUnavailable, StorageFull, DiskAlmostFull) as error:
        print(error, file=sys.stderr)
        return ExitCode.STOPPED
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        print("the disk of the server is full; let the operator free some space", file=sys.stderr)
        return ExitCode.STOPPED
    write_atomic(folder.summary, summary.model_dump_json(indent=1))
    # Readers must find all files after a power failure, if they find the result.
    os.sync()
    return ExitCode.DONE


def check(request: CheckRequest, folder: DatasetFolder, settings: Settings) -> CheckSummary:
    """Return the result of the check; problems of the data are part of it.

    Raises:
        StorageUnavailable: the archive cannot be read at the moment.
        DiskAlmostFull: the disk has too little free space for the files.
        OSError: the disk is full.
    """
    files, extracted = folder.files, Extracted()
    try:
        files, extracted = _files(request, folder, settings)
        if request.is_for_jobs:
            return CheckSummary(is_ready=True, num_images=_count_images(files), **_sizes(extracted))
        found = examine(files, folder.document, request.sources, may_write=request.folder is None)
    except (DatasetError, ArchiveDamaged, ArchiveMissing) as error:
        shutil.rmtree(folder.files, ignore_errors=True)
        return CheckSummary(is_ready=False, message=str(error), problems=[str(error)])
    except ConfigError as error:
        texts = [_without_path(str(problem), files) for problem in error.problems]
        return CheckSummary(is_ready=False, message=texts[0], problems=texts[:MAX_PROBLEMS], **_sizes(extracted))
    except MemoryError:
        message = "the check needs more memory than PYRAMIDION_DATASET_CHECK_BYTES allows; divide the data set"
        return CheckSummary(is_ready=False, message=message, problems=[message])
    finally:
        shutil.rmtree(folder.cache, ignore_errors=True)
    return _summary(request, folder, files, extracted, found)


def _files(request: CheckRequest, folder: DatasetFolder, settings: Settings) -> tuple[Path, Extracted]:
    """Return the folder with the files, which are extracted if the data set is an archive."""
    if request.folder is not None:
        files = find_root(request.folder, settings.data_roots)
        return files, Extracted(list_folder(files, settings.dataset_max_files).num_files, 0)
    storage = open_storage(settings.storage_url, settings.datasets_dir / ARCHIVES, settings.storage_timeout_s)
    key = ArchiveKey(request.content_sha256, request.id)
    copy = folder.path / "archive"
    local = storage.local_path(key)
    with Path(os.devnull if local else copy).open("wb") as file:
        for chunk in storage.read(key):
            require_free_space(settings, 0 if local else len(chunk))
            file.write(chunk)
    limits = ExtractionLimits(
        max_files=settings.dataset_max_files,
        max_bytes=min(settings.dataset_max_bytes, request.max_bytes),
        max_file_bytes=settings.dataset_max_file_bytes,
        max_ratio=settings.dataset_max_ratio,
        min_free_bytes=settings.min_free_bytes,
    )
    folder.files.mkdir()
    extracted = extract_archive(local or copy, folder.files, limits)
    copy.unlink(missing_ok=True)
    return folder.files, extracted


def _count_images(files: Path) -> int:
    """Return the number of image files, which are not opened; raises ArchiveInvalid if there are none."""
    images, _ = find_images([files])
    if not images:
        raise ArchiveInvalid(f"contains no image files ({', '.join(sorted(IMAGE_SUFFIXES))}); pack some")
    return len(images)


def _summary(
    request: CheckRequest, folder: DatasetFolder, files: Path, extracted: Extracted, found: Examination
) -> CheckSummary:
    if found.job is None or found.index is None or found.report is None or found.document is None:
        num_thumbnails = write_thumbnails(folder, plain_pictures(files, found.images))
        return CheckSummary(
            is_ready=found.is_ready, message=found.message, num_images=len(found.images),
            num_thumbnails=num_thumbnails, **_sizes(extracted),
        )  # fmt: skip
    report = replace(found.report, root=request.reference).to_dict()
    write_atomic(folder.report, json.dumps(report, ensure_ascii=False))
    layers = [layer for source in found.job.data.sources.values() for layer in source.labels]
    data = {name: value for name, value in found.document["data"].items() if name != "root"}
    return CheckSummary(
        is_ready=found.is_ready,
        message=found.message,
        problems=[_without_path(problem.message, files) for problem in found.report.problems()][:MAX_PROBLEMS],
        format=", ".join(sorted({layer.format for layer in layers})),
        sources=found.document["data"]["sources"],
        document={**found.document, "name": request.name, "data": {"dataset": request.reference, **data}},
        **_sizes(extracted),
        num_images=sum(counts.in_index + counts.unlabeled for counts in found.report.images.values()),
        splits={split: len(records) for split, records in found.index.records.items()},
        tasks=task_statistics(found.index, report["tasks"]),
        findings=report["findings"],
        finding_groups=finding_groups(found.report, partial(_without_path, files=files)),
        num_errors=report["num_errors"],
        num_warnings=report["num_warnings"],
        num_thumbnails=write_thumbnails(folder, labeled_pictures(found.job, found.index)),
    )


def _sizes(extracted: Extracted) -> dict[str, int]:
    return {"num_files": extracted.num_files, "files_bytes": extracted.num_bytes}


def _without_path(text: str, files: Path) -> str:
    """Return a message without the place of the data on the server."""
    return text.replace(f"{files}/", "").replace(str(files), "the data set")


if __name__ == "__main__":
    sys.exit(main())
