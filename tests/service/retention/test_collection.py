"""What retention deletes and what it never deletes, on a real database with real folders."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.run_folder.layout import AttemptDir
from pipelines.tracking.mlflow_store import Store, connect, find_store
from pipelines.tracking.registry import Registry
from service.datasets.folder import version_folder
from service.principal import Principal
from service.retention.candidates import DeletedKind, Deletion
from service.states import JobStatus
from service.store.audit import AuditLog
from service.store.dataset_records import CheckedDataset, JobImages, NewDatasetVersion
from service.store.datasets import DatasetStore
from service.store.errors import NotFound
from service.store.records import NewJob

WEEK_S = 7 * 86_400.0
Root = Any


def targets(deletions: list[Deletion]) -> list[tuple[str, str]]:
    return [(str(one.kind), one.job_id) for one in deletions]


def test_only_superseded_checkpoints_of_succeeded_jobs_are_deleted_by_default(root: Root) -> None:
    old, new = root.ended(8), root.ended(6)
    failed = root.ended(100, status=JobStatus.FAILED)
    (deletion,) = root.deleted()
    run_dir = root.run_dir(old)
    assert (deletion.kind, deletion.job_id, deletion.num_bytes) == (DeletedKind.CHECKPOINT, old, 100)
    assert not run_dir.last_checkpoint.exists()
    assert run_dir.best_checkpoint.exists()
    assert run_dir.result.exists()
    assert root.run_dir(new).last_checkpoint.exists()
    assert root.run_dir(failed).last_checkpoint.exists()
    assert root.deleted() == []


def test_only_checkpoint_of_a_run_is_kept_by_default(root: Root) -> None:
    job = root.ended(100)
    root.run_dir(job).best_checkpoint.unlink()
    assert root.found() == []


def test_jobs_are_deleted_by_age_number_or_size_with_folder_rows_and_audit(root: Root) -> None:
    jobs = [root.ended(days, num_bytes=1000) for days in (1, 2, 3, 40)]
    assert targets(root.found(keep_jobs_s=30 * 86_400)) == [("job", jobs[3])]
    assert targets(root.found(keep_jobs=2)) == [("job", jobs[2]), ("job", jobs[3])]
    assert targets(root.found(keep_jobs_bytes=6010)) == [("job", jobs[2]), ("job", jobs[3])]
    assert [one.num_bytes for one in root.deleted(keep_jobs=3)] == [3002]
    assert not root.run_dir(jobs[3]).path.exists()
    with pytest.raises(NotFound):
        root.store.get(jobs[3])
    assert root.store.get(jobs[2]).status is JobStatus.SUCCEEDED
    (row, *_) = AuditLog(root.engine).page()
    assert (row.actor, row.action, row.target) == ("gc", "job.delete", jobs[3])


def test_job_that_has_not_ended_or_is_not_settled_is_never_deleted(root: Root) -> None:
    everything = {"keep_jobs": 0, "keep_checkpoints": 0, "keep_logs": 0, "keep_events": 0}
    queued, running = root.waiting(), root.waiting()
    root.leases.claim(running, [])
    unsettled = root.ended(100, mlflow_run_id="r", mlflow_status=None)
    assert root.deleted(**everything) == []
    assert {root.store.get(job).id for job in (queued, running, unsettled)} == {queued, running, unsettled}


def test_run_that_a_waiting_job_names_is_kept(root: Root) -> None:
    named, other = root.ended(10), root.ended(10)
    root.waiting(model={"init_from": f"service/jobs/{named}/checkpoints/last.ckpt"})
    assert targets(root.deleted(keep_jobs=0)) == [("job", other)]
    assert targets(root.deleted(keep_checkpoints=0)) == []
    assert root.run_dir(named).last_checkpoint.exists()


@pytest.mark.parametrize("rules", [{"keep_jobs": 0}, {"keep_checkpoints": 0}])
def test_run_that_a_job_names_which_was_submitted_meanwhile_is_kept(root: Root, rules: dict[str, int]) -> None:
    first, second = root.ended(10), root.ended(11)
    collection = root.collection(**rules)
    submitted = []

    def submit(deletion: Deletion) -> None:
        submitted.append(root.waiting(model={"init_from": f"service/jobs/{second}/checkpoints/last.ckpt"}))

    # The list of deletions was complete before the job was submitted.
    assert [one.job_id for one in collection.carry_out(submit)] == [first]
    assert len(submitted) == 1
    assert root.run_dir(second).last_checkpoint.exists()
    assert root.store.get(second).id == second


def test_logs_checkpoints_and_events_have_rules_of_their_own(root: Root) -> None:
    new, old = root.ended(1), root.ended(5)
    deleted = root.deleted(keep_logs=1, keep_checkpoints_bytes=200, keep_events=3)
    assert sorted(targets(deleted)) == [("checkpoint", old), ("events", old), ("log", old)]
    run_dir = root.run_dir(old)
    assert not run_dir.best_checkpoint.exists()
    assert not AttemptDir(run_dir.attempt(1)).log.exists()
    assert run_dir.result.exists()
    assert (root.num_events(old), root.num_events(new)) == (0, 3)
    assert [event.kind for event in root.store.events(old, after=0)] == ["status"] * 3
    assert AttemptDir(root.run_dir(new).attempt(1)).log.exists()


def test_nothing_is_deleted_twice_or_listed_twice(root: Root) -> None:
    root.ended(100)
    rules = {"keep_jobs_s": WEEK_S, "keep_checkpoints": 0, "keep_logs": 0, "keep_events": 0}
    assert [kind for kind, _ in targets(root.found(**rules))] == ["job"]
    del rules["keep_jobs_s"]
    assert [kind for kind, _ in targets(root.found(**rules))] == ["checkpoint", "log", "events"]
    assert len(root.deleted(**rules)) == 3
    assert root.deleted(**rules) == []


@pytest.mark.parametrize("crash", ["after the mark", "in the folder", "before the row"])
def test_deletion_is_finished_after_a_crash_whatever_the_rules_are_then(root: Root, crash: str) -> None:
    job = root.ended(10)
    assert root.collection()._store.mark(job, 0)
    if crash == "in the folder":
        root.run_dir(job).best_checkpoint.unlink()
    if crash == "before the row":
        shutil.rmtree(root.run_dir(job).path)
    (deletion,) = root.found()
    assert deletion.reason == "its deletion was interrupted"
    assert targets(root.deleted()) == [("job", job)]
    assert not root.run_dir(job).path.exists()
    with pytest.raises(NotFound):
        root.store.get(job)
    assert root.deleted() == []


def test_what_cannot_be_deleted_is_a_problem_and_the_rest_continues(root: Root) -> None:
    other, stuck = root.ended(10), root.ended(11)
    folder = root.run_dir(stuck).path
    shutil.rmtree(folder)
    folder.write_text("a file in the place of the folder")
    collection = root.collection(keep_jobs=0)
    assert targets(collection.carry_out()) == [("job", other)]
    assert collection.problems == [f"{folder}: Not a directory; it was not deleted"]
    folder.unlink()
    assert targets(root.deleted()) == [("job", stuck)]


def dataset(root: Root, content: str) -> str:
    """Add a version of a data set that was checked, with a folder, and return its id."""
    store, sha256 = DatasetStore(root.engine), content * 64
    new = NewDatasetVersion(id=f"id{content}", name="shapes", sha256=sha256, content_sha256=sha256, archive_bytes=100)
    version, _ = store.create(new, Principal("me", "local"), 1 << 30)
    assert store.claim_check("me", 60) is not None
    assert store.finish_check(version.id, "me", CheckedDataset(True, files_bytes=50))
    version_folder(root.settings().datasets_dir, version.id).path.mkdir(parents=True)
    return version.id


def test_data_sets_that_no_job_needs_are_deleted(root: Root) -> None:
    used, free = dataset(root, "a"), dataset(root, "b")
    config = {"name": "waiting"}
    root.store.submit(NewJob("waiting", config, 0, cpus=1, gpus=0, dataset_id=used))
    assert root.found() == []
    (deletion,) = root.deleted(keep_datasets=0)
    assert (deletion.kind, deletion.job_id, deletion.name) == (DeletedKind.DATASET, free, f"shapes@{'b' * 12}")
    assert deletion.num_bytes == 150
    assert not deletion.paths[0].exists()
    # The API deletes the archive, whose storage this process may not know, and then the row.
    deleting = DatasetStore(root.engine).deleting()
    assert [version.id for version in deleting] == [free]
    assert root.deleted(keep_datasets=0) == []


@pytest.fixture
def registered(root: Root, no_mlflow_settings: None, mlflow_runs_root: Path) -> str:
    """A job whose model is registered."""
    root.registry = Registry(find_store(mlflow_runs_root))
    client = connect(root.registry.store)
    run_id = client.create_run(client.create_experiment(f"of {root.folder}")).info.run_id
    client.create_registered_model("kept")
    client.create_model_version("kept", "file:///nowhere", run_id=run_id)
    job = root.ended(100, mlflow_run_id=run_id, mlflow_status="FINISHED")
    root.run_dir(job).registration.write_text('{"name": "kept", "version": 1}')
    return str(job)


def test_source_of_a_registered_model_is_kept_until_the_version_is_deleted(root: Root, registered: str) -> None:
    other = root.ended(100, mlflow_run_id="without a model", mlflow_status="FINISHED")
    assert targets(root.deleted(keep_jobs=0, keep_checkpoints=0, keep_last_checkpoint_s=1e8)) == [("job", other)]
    assert root.run_dir(registered).best_checkpoint.exists()
    client = connect(root.registry.store)
    client.delete_registered_model("kept")
    assert targets(root.deleted(keep_jobs=0)) == [("job", registered)]


def test_jobs_that_may_have_a_model_are_kept_while_mlflow_does_not_answer(root: Root) -> None:
    root.registry = Registry(Store("http://127.0.0.1:9"))
    tracked = root.ended(100, mlflow_run_id="r", mlflow_status="FINISHED")
    untracked = root.ended(100)
    collection = root.collection(keep_jobs=0, keep_last_checkpoint_s=1e8)
    assert targets(collection.carry_out()) == [("job", untracked)]
    assert root.store.get(tracked).id == tracked
    (problem,) = collection.problems
    assert problem.endswith("jobs that may have a registered model are kept")


def test_images_that_were_uploaded_with_a_deleted_job_are_deleted_with_it(root: Root) -> None:
    datasets = DatasetStore(root.engine)
    version = NewDatasetVersion("one", "images-one", "a" * 64, "a" * 64, of_jobs=True)
    new = NewJob("j", {"name": "j"}, 0, cpus=1, gpus=0, images=JobImages(version, 1000))
    job = root.store.submit(new)[0]
    assert datasets.claim_check("me", 60) is not None
    assert datasets.finish_check("one", "me", CheckedDataset(True))
    folder = version_folder(root.settings().datasets_dir, "one").path
    folder.mkdir(parents=True)
    assert root.deleted(keep_datasets=0, keep_jobs=0) == [], "the job waits for its start"
    root.store.request_cancel(job.id)
    assert [deletion.job_id for deletion in root.deleted(keep_jobs=0)] == [job.id]
    assert not folder.exists()
    assert [found.id for found in datasets.deleting()] == ["one"]
