"""A root with a database and jobs that have ended some days ago, with files of the sizes that tests choose."""

import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from pipelines.run_folder.layout import AttemptDir, RunDir
from pipelines.tracking.mlflow_store import Store
from pipelines.tracking.registry import Registry
from service.retention.candidates import Deletion
from service.retention.collection import Collection
from service.settings import Settings
from service.states import JobStatus
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob
from service.store.tables import events, jobs

DAY_S = 86_400.0


class Root:
    """The root of a service that is not running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = open_database(self.settings().url_of_database)
        self.store = JobStore(self.engine)
        self.leases = LeasedStore(self.engine, "test")
        self.registry = Registry(Store(f"sqlite:///{folder / 'mlflow.db'}"))

    def settings(self, **rules: Any) -> Settings:
        return Settings(root=self.folder, **rules)

    def waiting(self, **config: Any) -> str:
        return self.store.submit(NewJob("waiting", {"name": "waiting", **config}, 0, cpus=1, gpus=0))[0].id

    def ended(self, days_ago: float, num_bytes: int = 100, **more: Any) -> str:
        """Add a job with a run folder: checkpoints and a log of `num_bytes` each, and three events."""
        status, name = more.pop("status", JobStatus.SUCCEEDED), more.pop("name", "j")
        job = self.store.submit(NewJob(name, {"name": name}, 0, cpus=1, gpus=0))[0]
        claimed = self.leases.claim(job.id, [])
        assert claimed is not None
        self.leases.move(claimed, JobStatus.RUNNING)
        values = {"status": status, "finished_at": time.time() - days_ago * DAY_S, "lease_owner": None, **more}
        event = {"job_id": job.id, "attempt": 1, "time": 0.0, "kind": "progress", "epoch": 0, "step": 0, "data": {}}
        with self.engine.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(values))
            connection.execute(insert(events), [event] * 3)
        run_dir = self.run_dir(job.id)
        files = [run_dir.best_checkpoint, run_dir.last_checkpoint, AttemptDir(run_dir.attempt(1)).log]
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * num_bytes)
        run_dir.result.write_text("{}")
        return job.id

    def run_dir(self, job_id: str) -> RunDir:
        return RunDir.of(self.folder / "jobs" / job_id)

    def collection(self, **rules: Any) -> Collection:
        return Collection(self.settings(**rules), self.engine, self.registry)

    def found(self, **rules: Any) -> list[Deletion]:
        return list(self.collection(**rules).find())

    def deleted(self, **rules: Any) -> list[Deletion]:
        return self.collection(**rules).carry_out()

    def num_events(self, job_id: str) -> int:
        return sum(event.kind != "status" for event in self.store.events(job_id, after=0))


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path / "root")
