"""Convert versions of data sets to response bodies."""

from typing import Any

from service.api.views import moment, moment_or_none
from service.datasets.folder import CheckSummary
from service.datasets.use_cases import DatasetDetails
from service.rest.dataset_schemas import DatasetSummary, DatasetView
from service.store.dataset_records import DatasetVersion


def dataset_summary(version: DatasetVersion) -> DatasetSummary:
    """Return a version as shown in lists."""
    return DatasetSummary(**_summary(version))


def dataset_view(details: DatasetDetails) -> DatasetView:
    """Return a version with the result of its check."""
    checked = details.summary or CheckSummary(is_ready=False)
    return DatasetView(
        **_summary(details.version),
        problems=checked.problems,
        format=checked.format,
        num_files=checked.num_files,
        splits=checked.splits,
        tasks=checked.tasks,
        findings=checked.findings,
        finding_groups=checked.finding_groups,
        num_errors=checked.num_errors,
        num_warnings=checked.num_warnings,
        num_thumbnails=checked.num_thumbnails,
        document=checked.document,
    )


def _summary(version: DatasetVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "version": version.version,
        "reference": version.reference,
        "sha256": version.sha256,
        "status": version.status,
        "message": version.message,
        "kind": "archive" if version.folder is None else "folder",
        "folder": version.folder,
        "archive_bytes": version.archive_bytes,
        "files_bytes": version.files_bytes,
        "num_images": version.num_images,
        "of_jobs": version.of_jobs,
        "created_at": moment(version.created_at),
        "created_by": version.created_by,
        "checked_at": moment_or_none(version.checked_at),
    }
