"""Backups under load are consistent, and a restore that is killed at a random moment is repeated."""

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from service.backup.create import create_backup
from service.backup.restore import restore_backup
from service.backup.unfinished import is_unfinished
from service.child_process import child_environment
from service.settings import Settings
from service.states import JobStatus
from service.store.database import open_database
from service.store.dataset_records import DatasetStatus
from service.store.datasets import DatasetStore
from service.store.errors import DatasetNotFound, NotFound
from service.store.jobs import JobStore
from service.store.records import NewJob
from tests.service.dataset_archives import write_dataset, zip_of, zipped
from tests.service.dataset_requests import upload
from tests.service.reliability.cluster import SCRIPT, Cluster

pytestmark = pytest.mark.reliability

TEMPLATE = "cd ../..; mkdir -p checkpoints; echo c > checkpoints/last.ckpt; sleep 0.3; echo '{}' > result.json"


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, no_mlflow_settings: None) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "old", database_url, gc_every_s=2.0, keep_jobs=5)
    yield cluster
    cluster.close()


def load(cluster: Cluster, client: httpx2.Client, folder: Path, over: threading.Event) -> None:
    """Submit jobs and upload data sets until the end."""
    write_dataset(folder)
    number = 0
    while not over.wait(0.2):
        number += 1
        if cluster.store.counts()[JobStatus.QUEUED] < 5:
            cluster.submit(TEMPLATE)
        if number % 5 == 0:
            (folder / "number").write_text(str(number))
            with suppress(httpx2.TransportError):
                upload(client, zipped(folder), f"set{number}")


def require_consistent(settings: Settings, old: Cluster) -> None:
    """Check that rows and files agree, except for what was deleted while the backup was made."""
    engine = open_database(settings.url_of_database)
    jobs, datasets = JobStore(engine), DatasetStore(engine)
    try:
        rows = jobs.page(limit=1000)
        assert {path.name for path in settings.jobs_dir.iterdir()} <= {job.id for job in rows}
        for job in rows:
            if job.status is JobStatus.SUCCEEDED and not (settings.run_dir(job.id) / "result.json").exists():
                with pytest.raises(NotFound):
                    old.store.get(job.id)
            assert not job.status.is_active
        versions = {version.id: version for version in datasets.page(None, limit=1000)}
        for version in versions.values():
            files = settings.datasets_dir / version.id / "files"
            archive = settings.datasets_dir / "archives" / version.content_sha256 / version.id
            if not archive.exists() or (version.status is DatasetStatus.READY and not files.is_dir()):
                with pytest.raises(DatasetNotFound):
                    DatasetStore(old.engine).find(None, version.name, version.sha256)
        if settings.datasets_dir.exists():
            folders = {path.name for path in settings.datasets_dir.iterdir()} - {"archives"}
            assert folders <= versions.keys()
            archives = {path.name for path in settings.datasets_dir.glob("archives/*/*")}
            assert archives <= versions.keys()
    finally:
        engine.dispose()


@pytest.mark.timeout(1800)
def test_backups_under_load_are_consistent_and_their_jobs_end(
    cluster: Cluster, tmp_path: Path, repetitions: int
) -> None:
    cluster.start_supervisor()
    _, client = cluster.start_api()
    over = threading.Event()
    thread = threading.Thread(target=load, args=(cluster, client, tmp_path / "shapes", over))
    thread.start()
    restored = None
    try:
        for number in range(repetitions):
            time.sleep(random.uniform(0.0, 2.0))
            backup, root = tmp_path / f"backup{number}", tmp_path / f"root{number}"
            create_backup(cluster.settings, cluster.engine, backup)
            restored = Settings(root=root)
            restore_backup(restored, backup)
            require_consistent(restored, cluster)
            shutil.rmtree(backup)
            if number + 1 < repetitions:
                shutil.rmtree(root)
    finally:
        over.set()
        thread.join()
    assert restored is not None
    again = Cluster(restored.root.parent, restored.url_of_database, root=restored.root)
    try:
        again.start_supervisor()
        waiting = again.store.page(statuses=[JobStatus.QUEUED], limit=1000)
        assert {job.status for job in again.ended([*waiting, again.submit(SCRIPT.format(seconds=0.02))])} == {
            JobStatus.SUCCEEDED
        }
    finally:
        again.close()


@pytest.mark.timeout(1800)
def test_restore_that_is_killed_at_random_moments_says_so_and_is_repeated(
    tmp_path: Path, database_url: str, no_mlflow_settings: None, repetitions: int
) -> None:
    old = Settings(root=tmp_path / "old")
    engine = open_database(old.url_of_database)
    store = JobStore(engine)
    cluster_jobs = [store.submit(new_job(number))[0].id for number in range(300)]
    for job_id in cluster_jobs:
        old.run_dir(job_id).mkdir(parents=True)
        (old.run_dir(job_id) / "job.yaml").write_text(job_id)
    (old.datasets_dir / "archives" / "partial").mkdir(parents=True)
    (old.root / "large").write_bytes(zip_of({"a": bytes(64 << 20)}))
    create_backup(old, engine, tmp_path / "backup")
    engine.dispose()
    new = Settings(root=tmp_path / "new", database_url=database_url)
    command = [sys.executable, "-P", "-m", "service.cli", "restore", str(tmp_path / "backup")]
    options = ["--root", str(new.root), "--database-url", database_url]
    environment = {**child_environment(), "PYTHONUNBUFFERED": "1"}
    num_marks, is_complete = 0, False
    for _ in range(repetitions):
        process = subprocess.Popen(
            [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        verified = process.stdout.readline().decode()
        assert "files are verified" in verified, verified
        time.sleep(random.uniform(0.0, 1.0))  # it writes now
        process.kill()
        process.wait()
        output = process.stdout.read().decode()
        assert "Traceback" not in output, output
        num_marks += is_unfinished(new.root)
        # Without the mark, it was killed before it wrote anything, or at its end.
        is_complete = not is_unfinished(new.root) and new.root.exists() and any(new.root.iterdir())
        if is_complete:
            break
    if not is_complete:
        subprocess.run([*command, *options], env=environment, check=True)
    print(f"{num_marks} restores were killed while they wrote")
    assert not is_unfinished(new.root)
    restored = open_database(database_url)
    assert sorted(job.id for job in JobStore(restored).page(limit=1000)) == sorted(cluster_jobs)
    restored.dispose()
    assert {path.name: (path / "job.yaml").read_text() for path in new.jobs_dir.iterdir()} == {
        job_id: job_id for job_id in cluster_jobs
    }


def new_job(number: int) -> NewJob:
    return NewJob(f"j{number}", {"name": "j", "padding": "x" * 2000}, 0, cpus=1, gpus=0)
