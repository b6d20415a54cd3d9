"""Versions of data sets in the database: equal content, claims of checks, quota, and what needs a version."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine

from service.principal import KeyLimits, Principal
from service.states import JobStatus
from service.store.audit import AuditLog
from service.store.dataset_records import CheckedDataset, DatasetStatus, DatasetVersion, NewDatasetVersion
from service.store.datasets import DatasetStore
from service.store.errors import DatasetBeingDeleted, DatasetInUse, DatasetNotFound, QuotaExceeded
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob

QUOTA = 1000
ME = Principal("me", "local")
THEM = Principal("they", "theirs")
Create = Callable[..., DatasetVersion]


@pytest.fixture
def datasets(engine: Engine) -> DatasetStore:
    return DatasetStore(engine)


def new_version(content: str = "a", **values: Any) -> NewDatasetVersion:
    given = {"id": f"id{content}", "name": "shapes", "sha256": content * 64}
    return NewDatasetVersion(**{**given, "content_sha256": content * 64, "archive_bytes": 100, **values})


@pytest.fixture
def ready(datasets: DatasetStore) -> Create:
    """Add a version that was checked."""

    def ready(content: str = "a", by: Principal = ME, **values: Any) -> DatasetVersion:
        version, _ = datasets.create(new_version(content, **values), by, QUOTA)
        assert datasets.claim_check("me", 60) is not None
        assert datasets.finish_check(version.id, "me", CheckedDataset(True, num_images=3, files_bytes=150))
        return datasets.find(version.tenant, version.name, version.sha256)

    return ready


def test_same_content_gives_the_same_version(datasets: DatasetStore) -> None:
    first, is_new = datasets.create(new_version(), ME, QUOTA)
    again, is_new_again = datasets.create(new_version(id="other"), ME, QUOTA)
    assert (is_new, is_new_again) == (True, False)
    assert (again, first.version, first.reference) == (first, "a" * 12, "shapes@aaaaaaaaaaaa")


def test_content_of_another_tenant_is_another_version(datasets: DatasetStore) -> None:
    datasets.create(new_version(), ME, QUOTA)
    _, is_new = datasets.create(new_version(id="other"), THEM, QUOTA)
    assert is_new
    assert [version.tenant for version in datasets.page("theirs")] == ["theirs"]
    assert len(datasets.page(None)) == 2
    with pytest.raises(DatasetNotFound):
        datasets.find("nobody", "shapes", "aaaaaaaa")


def test_invalid_version_is_checked_again_when_it_is_uploaded_again(datasets: DatasetStore) -> None:
    version, _ = datasets.create(new_version(), ME, QUOTA)
    datasets.claim_check("me", 60)
    datasets.finish_check(version.id, "me", CheckedDataset(False, "too large"))
    again, is_new = datasets.create(new_version(id="other"), ME, QUOTA)
    assert (again.id, again.status, again.message, is_new) == (version.id, DatasetStatus.CHECKING, None, False)


def test_quota_counts_archives_and_files_of_the_tenant(datasets: DatasetStore, ready: Create) -> None:
    ready("a")
    ready("b", THEM, id="other")
    assert datasets.used_bytes("local") == 250
    datasets.create(new_version("c", archive_bytes=750), ME, QUOTA)
    with pytest.raises(QuotaExceeded, match="PYRAMIDION_DATASET_QUOTA_BYTES"):
        datasets.create(new_version("d", archive_bytes=1), ME, QUOTA)


def test_key_has_a_limit_of_its_own(datasets: DatasetStore) -> None:
    key = Principal("key", "local", key_id="k1", limits=KeyLimits(storage_bytes=150))
    assert datasets.free_bytes(key, QUOTA) == 150
    datasets.create(new_version("a"), key, QUOTA)
    assert (datasets.free_bytes(key, QUOTA), datasets.free_bytes(ME, QUOTA)) == (50, 900)
    with pytest.raises(QuotaExceeded, match="PYRAMIDION_KEY_STORAGE_BYTES"):
        datasets.create(new_version("b"), key, QUOTA)
    datasets.create(new_version("b"), ME, QUOTA)


def test_concurrent_uploads_do_not_exceed_the_quota(datasets: DatasetStore) -> None:
    start = threading.Barrier(8)
    refused: list[str] = []

    def create(content: str) -> None:
        start.wait()
        try:
            datasets.create(new_version(content, archive_bytes=200), ME, QUOTA)
        except QuotaExceeded:
            refused.append(content)

    threads = [threading.Thread(target=create, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (datasets.used_bytes("local"), len(refused)) == (QUOTA, 3)


def test_changes_are_in_the_audit_log(datasets: DatasetStore, ready: Create, engine: Engine) -> None:
    version = ready()
    datasets.start_deletion(version.id, ME)
    rows = AuditLog(engine).page()
    assert [(row.actor, row.action, row.target) for row in rows] == [
        ("me", "dataset.delete", version.reference),
        ("me", "dataset.create", version.reference),
    ]


def test_newest_ready_version_is_found_without_a_number(datasets: DatasetStore, ready: Create) -> None:
    with pytest.raises(DatasetNotFound, match="no version of a data set named 'shapes' is ready"):
        datasets.find("local", "shapes", None)
    ready("a")
    newest = ready("b")
    datasets.create(new_version("c"), ME, QUOTA)
    assert datasets.find("local", "shapes", None) == newest
    assert datasets.find("local", "shapes", "aaaaaaaa").sha256 == "a" * 64


def test_pages_are_newest_first_and_filtered(datasets: DatasetStore, ready: Create) -> None:
    first, second = ready("a"), ready("b")
    third, _ = datasets.create(new_version("c", name="others"), ME, QUOTA)
    assert datasets.page("local", limit=2) == [third, second]
    assert datasets.page("local", before_number=second.number) == [first]
    assert datasets.page("local", name="shapes", statuses=[DatasetStatus.READY]) == [second, first]


def test_check_is_claimed_once_until_its_lease_expires(datasets: DatasetStore) -> None:
    version, _ = datasets.create(new_version(), ME, QUOTA)
    first = datasets.claim_check("first", 60)
    assert first is not None
    assert (first.id, first.check_attempts) == (version.id, 1)
    assert datasets.claim_check("second", 60) is None
    assert datasets.renew_check(version.id, "first", -1)
    second = datasets.claim_check("second", 60)
    assert second is not None
    assert second.check_attempts == 2


def test_owner_that_lost_its_claim_writes_nothing(datasets: DatasetStore) -> None:
    version, _ = datasets.create(new_version(), ME, QUOTA)
    datasets.claim_check("first", -1)
    datasets.claim_check("second", 60)
    assert not datasets.renew_check(version.id, "first", 60)
    assert not datasets.finish_check(version.id, "first", CheckedDataset(True))
    assert not datasets.postpone_check(version.id, "first", 0, "late")
    assert datasets.find(None, "shapes", version.sha256).status is DatasetStatus.CHECKING


def test_postponed_check_is_due_later_with_its_reason(datasets: DatasetStore) -> None:
    version, _ = datasets.create(new_version(), ME, QUOTA)
    datasets.claim_check("me", 60)
    assert datasets.postpone_check(version.id, "me", 60, "the disk is full")
    assert datasets.claim_check("me", 60) is None
    assert datasets.find(None, "shapes", version.sha256).message == "the disk is full"


def test_check_is_due_after_the_clock_was_set_back(datasets: DatasetStore) -> None:
    version, _ = datasets.create(new_version(), ME, QUOTA)
    assert datasets.claim_check("killed", 3600) is not None, "as claimed when the clock was an hour ahead"
    found = datasets.claim_check("next", 60)
    assert found is not None
    assert found.id == version.id


def test_concurrent_claims_give_every_check_to_one_owner(datasets: DatasetStore) -> None:
    for number in range(6):
        datasets.create(new_version(str(number), archive_bytes=1), ME, QUOTA)
    claimed: list[str] = []

    def claim(owner: str) -> None:
        while (version := datasets.claim_check(owner, 60)) is not None:
            claimed.append(version.id)

    threads = [threading.Thread(target=claim, args=(f"owner{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == [f"id{number}" for number in range(6)]


def test_version_that_a_job_uses_cannot_be_deleted_until_the_job_is(
    datasets: DatasetStore, ready: Create, store: JobStore, new_job: Callable[..., NewJob]
) -> None:
    version = ready()
    job, _ = store.submit(new_job(dataset_id=version.id))
    used = datasets.of_job(job.id)
    assert used is not None
    assert used.id == version.id
    with pytest.raises(DatasetInUse, match=f"needed by job {job.id}; delete these first"):
        datasets.start_deletion(version.id)
    store.request_cancel(job.id)
    store.delete(job.id)
    assert datasets.start_deletion(version.id).status is DatasetStatus.DELETING
    datasets.finish_deletion(version.id)
    assert datasets.page(None) == []


def test_models_of_deleted_jobs_keep_a_version(
    datasets: DatasetStore, ready: Create, store: JobStore, leased: LeasedStore, new_job: Callable[..., NewJob]
) -> None:
    version = ready()
    job, _ = store.submit(new_job(dataset_id=version.id))
    claimed = leased.claim(job.id, [])
    assert claimed is not None
    leased.set_mlflow_run(claimed, "run1")
    running = leased.move(store_job(store, job.id), JobStatus.RUNNING)
    leased.end_attempt(running, "succeeded", 0)
    leased.move(leased.move(running, JobStatus.FINALIZING), JobStatus.SUCCEEDED)
    leased.settle(job.id, "FINISHED")
    store.delete(job.id)
    assert datasets.runs_of_deleted_jobs(version.id) == ["run1"]
    with pytest.raises(DatasetInUse, match="models of run run1"):
        datasets.start_deletion(version.id)
    datasets.start_deletion(version.id, ME, ["run1"])


def store_job(store: JobStore, job_id: str) -> Any:
    return store.get(job_id)


@pytest.mark.parametrize("status", ["checking", "deleting", "missing"])
def test_job_is_not_added_without_a_ready_version(
    status: str, datasets: DatasetStore, ready: Create, store: JobStore, new_job: Callable[..., NewJob]
) -> None:
    if status == "checking":
        datasets.create(new_version(), ME, QUOTA)
    if status == "deleting":
        datasets.start_deletion(ready().id)
    with pytest.raises(DatasetNotFound):
        store.submit(new_job(dataset_id="ida"))
    assert store.page() == []


def test_content_of_a_version_that_is_being_deleted_is_refused(datasets: DatasetStore, ready: Create) -> None:
    datasets.start_deletion(ready().id)
    with pytest.raises(DatasetBeingDeleted, match="in a moment"):
        datasets.create(new_version(id="other"), ME, QUOTA)
    assert [version.id for version in datasets.deleting()] == ["ida"]
