"""`pyramidion gc` under load, on a schedule and by hand, killed at random moments: what is needed is never deleted."""

import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from pipelines.run_folder.layout import RunDir
from pipelines.tracking.mlflow_store import connect, find_store
from service.datasets.deletion import delete_content
from service.datasets.folder import ARCHIVES, version_folder
from service.principal import LOCAL_USER
from service.retention.collection import Collection
from service.settings import Settings
from service.states import JobStatus
from service.storage.local import LocalStorage
from service.store.dataset_records import CheckedDataset, NewDatasetVersion
from service.store.datasets import DatasetStore
from service.store.errors import DatasetNotFound, NotFound
from service.store.records import Job, NewJob
from service.store.retention import RetentionStore
from service.store.tables import job_deletions, jobs
from tests.service.reliability.cluster import Cluster, document

pytestmark = pytest.mark.reliability

RULES: dict[str, Any] = {"keep_jobs": 2, "keep_checkpoints": 1, "keep_logs": 1, "keep_events": 10, "keep_datasets": 0}
START = """
cd ../..
mkdir -p checkpoints
"""
DONE = "echo best > checkpoints/best.ckpt; echo last > checkpoints/last.ckpt; echo '{}' > result.json"
RESUMED = f"""{START}
if [ -e checkpoints/last.ckpt ]; then sleep 0.2; [ -e checkpoints/last.ckpt ] || touch ../../lost; {DONE}; exit 0; fi
if [ -e started ]; then touch ../../lost; fi
touch started; echo last > checkpoints/last.ckpt
kill -9 $$
"""
"""The first attempt is killed after its checkpoint; `lost` shows that the second one did not find it."""
NEEDING = f"""{START}
NEEDED=PATH
i=0; while [ $i -lt 10 ]; do [ -e "$NEEDED" ] || touch needed; sleep 0.05; i=$((i+1)); done
{DONE}
"""
"""Leaves `needed` if a file is missing at any time while the job runs."""


class Load:
    """Submits jobs of several kinds until it is stopped."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.datasets = cluster, DatasetStore(cluster.engine)
        self.submitted: list[Job] = []
        self.naming: list[tuple[Job, str]] = []
        self.using: list[tuple[Job, str]] = []
        self._retention = RetentionStore(cluster.engine)
        self._over = threading.Event()
        self._threads = ThreadPoolExecutor(1)
        self._running = self._threads.submit(self._run)

    def stop(self) -> None:
        self._over.set()
        self._threads.shutdown()
        self._running.result()

    def _run(self) -> None:
        number = 0
        while not self._over.wait(0.3):
            number += 1
            if len(self.cluster.store.page(statuses=[JobStatus.QUEUED], limit=20)) > 10:
                continue
            self.submitted.append(self.cluster.submit(RESUMED))
            self._name_an_ended_job()
            self._use_a_dataset(number)

    def _name_an_ended_job(self) -> None:
        ended = self.cluster.store.page(statuses=[JobStatus.SUCCEEDED], limit=3)
        if not ended:
            return
        named = random.choice(ended).id
        script = NEEDING.replace("PATH", f"../{named}/checkpoints/best.ckpt")
        best = RunDir.of(self.cluster.settings.run_dir(named)).best_checkpoint
        config = {**document(script), "model": {"init_from": f"service/jobs/{named}/checkpoints/best.ckpt"}}
        job, _ = self.cluster.store.submit(NewJob("j", config, 5, cpus=1, gpus=0))
        # What is there after the submission must stay; `gc` may have been faster.
        if best.exists() and named not in self._retention.marked():
            self.naming.append((job, named))

    def _use_a_dataset(self, number: int) -> None:
        dataset_id, sha256 = f"set{number}", f"{number:064d}"
        folder = version_folder(self.cluster.settings.datasets_dir, dataset_id)
        folder.files.mkdir(parents=True)
        new = NewDatasetVersion(dataset_id, "shapes", sha256, sha256, 10)
        self.datasets.create(new, LOCAL_USER, 1 << 30)
        claimed = self.datasets.claim_check("load", 60)
        assert claimed is not None
        self.datasets.finish_check(claimed.id, "load", CheckedDataset(True, files_bytes=10))
        config = document(NEEDING.replace("PATH", f"'{folder.files}'"))
        new_job = NewJob("j", config, 5, cpus=1, gpus=0, dataset_id=dataset_id)
        try:
            self.using.append((self.cluster.store.submit(new_job)[0], dataset_id))
        except DatasetNotFound:  # `gc` was faster
            return


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, no_mlflow_settings: None) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, database_url, gc_every_s=1.0, retry_delay_s=0.1, **RULES)
    yield cluster
    cluster.close()


def register_sources(cluster: Cluster) -> list[str]:
    """Add ended jobs whose models are registered."""
    client = connect(find_store(cluster.settings.root))
    experiment, sources = client.create_experiment("tests"), []
    client.create_registered_model("kept")
    for _ in range(3):
        run_id = client.create_run(experiment).info.run_id
        client.create_model_version("kept", "file:///nowhere", run_id=run_id)
        job = cluster.submit("exit 0")
        cluster.store.request_cancel(job.id)
        with cluster.engine.begin() as connection:
            values = {"mlflow_run_id": run_id, "mlflow_status": "FINISHED"}
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(values))
        checkpoint = RunDir.of(cluster.settings.run_dir(job.id)).best_checkpoint
        checkpoint.parent.mkdir(parents=True)
        checkpoint.touch()
        sources.append(job.id)
    return sources


def collect(settings: Settings, cluster: Cluster) -> None:
    while Collection(settings, cluster.engine).carry_out():
        pass


@pytest.mark.timeout(1800)
def test_what_is_needed_survives_collections_that_are_killed_at_random_moments(
    cluster: Cluster, repetitions: int
) -> None:
    sources = register_sources(cluster)
    cluster.start_supervisor()
    load = Load(cluster)
    try:
        for _ in range(repetitions):
            running = [cluster.start_collection() for _ in range(2)]
            time.sleep(random.uniform(0.5, 4.0))
            running[0].kill()
            with_end = running[1].wait(120)
            assert with_end in (0, 1), cluster.log()
            assert running[0].wait(10) in (0, 1, -signal.SIGKILL)
    finally:
        load.stop()
    kept = [*load.submitted, *(job for job, _ in load.naming), *(job for job, _ in load.using)]
    cluster.until(lambda: not cluster.store.page(statuses=[status for status in JobStatus if not status.is_terminal]))
    assert not (cluster.settings.root / "lost").exists()
    for source in sources:
        assert RunDir.of(cluster.settings.run_dir(source)).best_checkpoint.exists()
    for job in kept:
        assert not (cluster.settings.run_dir(job.id) / "needed").exists(), (job.id, cluster.log())
        try:
            assert cluster.store.get(job.id).status is JobStatus.SUCCEEDED, cluster.log()
        except NotFound:
            continue
    assert len(load.naming) > 0
    assert len(load.using) > 0

    cluster.until(lambda: collect(cluster.settings, cluster) is None)
    with cluster.engine.connect() as connection:
        assert connection.execute(select(job_deletions)).all() == []
        known = set(connection.execute(select(jobs.c.id)).scalars())
    assert {path.name for path in cluster.settings.jobs_dir.iterdir()} == known
    assert known >= set(sources)
    # The API finishes deletions of data sets that were interrupted.
    for version in load.datasets.deleting():
        delete_content(version, LocalStorage(cluster.settings.datasets_dir / ARCHIVES), cluster.settings.datasets_dir)
        load.datasets.finish_deletion(version.id)
    versions = {version.id for version in load.datasets.page(None, limit=1000)}
    assert {path.name for path in cluster.settings.datasets_dir.glob("set*")} == versions
