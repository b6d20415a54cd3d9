"""Images that are uploaded with a job: their version is added with the job, and deleted with its last user."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from service.principal import LOCAL_USER
from service.store.dataset_records import CheckedDataset, DatasetStatus, JobImages, NewDatasetVersion
from service.store.datasets import DatasetStore
from service.store.errors import DatasetNotFound, KeyReused, QuotaExceeded
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob

NewJobOf = Callable[..., NewJob]


def images(version_id: str = "one", quota_bytes: int = 1000, **values: Any) -> JobImages:
    digest = "a" * 64
    version = NewDatasetVersion(
        version_id, f"images-{version_id}", digest, digest, archive_bytes=100, of_jobs=True, **values
    )
    return JobImages(version, quota_bytes)


@pytest.fixture
def datasets(engine: Engine) -> DatasetStore:
    return DatasetStore(engine)


@pytest.mark.representative
def test_job_waits_until_its_images_are_extracted(
    datasets: DatasetStore, store: JobStore, leased: LeasedStore, new_job: NewJobOf
) -> None:
    job, _ = store.submit(new_job(images=images()))
    other, _ = store.submit(new_job())
    assert [queued.id for queued in leased.queued()] == [other.id]
    version = datasets.claim_check("me", 60)
    assert version is not None
    assert (version.id, version.of_jobs, version.reference) == ("one", True, "images-one@aaaaaaaaaaaa")
    assert datasets.finish_check("one", "me", CheckedDataset(True, files_bytes=150))
    assert [queued.id for queued in leased.queued()] == [job.id, other.id]
    assert leased.problem_of_dataset(job) is None


def test_images_that_cannot_be_extracted_let_the_job_start_to_fail(
    datasets: DatasetStore, store: JobStore, leased: LeasedStore, new_job: NewJobOf
) -> None:
    job, _ = store.submit(new_job(images=images()))
    datasets.claim_check("me", 60)
    datasets.finish_check("one", "me", CheckedDataset(False, "is damaged"))
    assert [queued.id for queued in leased.queued()] == [job.id]
    assert leased.problem_of_dataset(job) == "the data set images-one@aaaaaaaaaaaa is invalid: is damaged"


def test_refused_job_leaves_no_version(datasets: DatasetStore, store: JobStore, new_job: NewJobOf) -> None:
    with pytest.raises(QuotaExceeded):
        store.submit(new_job(images=images(quota_bytes=99)))
    assert (store.page(), datasets.page(None)) == ([], [])
    first, _ = store.submit(new_job(images=images()), "key", "hash")
    again, is_new = store.submit(new_job(images=images("two")), "key", "hash")
    assert (again, is_new) == (first, False)
    with pytest.raises(KeyReused):
        store.submit(new_job(images=images("three")), "key", "other hash")
    assert [version.id for version in datasets.page(None)] == ["one"]


@pytest.mark.representative
def test_images_are_deleted_with_the_last_job_that_uses_them(
    datasets: DatasetStore, store: JobStore, new_job: NewJobOf
) -> None:
    first, _ = store.submit(new_job(images=images()))
    again, _ = store.submit(new_job(dataset_id="one", retry_of=first.id))
    for job in (first, again):
        store.request_cancel(job.id, LOCAL_USER)
    store.delete(first.id)
    assert datasets.deleting() == []
    store.delete(again.id)
    assert [(version.id, version.status) for version in datasets.deleting()] == [("one", DatasetStatus.DELETING)]
    datasets.finish_deletion("one")
    with pytest.raises(DatasetNotFound):
        store.submit(new_job(dataset_id="one"))
