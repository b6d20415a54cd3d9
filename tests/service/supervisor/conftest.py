"""A supervisor in this process, with a real database, the real local executor, and shell scripts as trainers."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.run_folder.layout import RunDir
from pipelines.tracking.job_runs import JobRuns
from pipelines.tracking.mlflow_store import Store, find_store
from service.executors.local import LocalExecutor
from service.settings import Settings
from service.states import JobStatus
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Event, Job, NewJob
from service.store.supervisor_lease import LeaseStore
from service.supervisor.lease import Lease
from service.supervisor.loop import Supervisor
from service.supervisor.mlflow_worker import MlflowWorker
from tests.service.waiting import wait_until


class Bench:
    """A root with a store, and supervisors that run on it one after the other.

    A job's document contains its `script`, which sh runs in the attempt's folder.
    """

    SUCCEED = "echo '{}' > ../../result.json"

    @staticmethod
    def at_term(then: str) -> str:
        """Return a script that writes its pid to `ready` and runs until SIGTERM, after which it runs `then`."""
        return f"trap '{then}' TERM; echo $$ > ready; while true; do sleep 0.02; done"

    def __init__(self, root: Path, tracking: Store, **settings: Any) -> None:
        defaults = {"cpus": 2, "gpus": 0, "retry_delay_s": 0.01, "cancel_grace_s": 60.0, "poll_s": 0.01}
        self.settings = Settings(root=root, **{**defaults, **settings})
        self.engine = open_database(self.settings.url_of_database)
        self.jobs = JobStore(self.engine)
        self.tracking = tracking
        self.new_supervisor()

    @staticmethod
    def wait_until(condition: Callable[[], Any], meanwhile: Callable[[], None] = lambda: None) -> Any:
        """Return the first true result of `condition`."""

        def is_met() -> Any:
            answer = condition()
            if not answer:
                meanwhile()
            return answer

        return wait_until(is_met, "the condition", pause_s=0.01)

    def new_supervisor(self) -> None:
        """Replace the supervisor as if it had been killed; the new one adopts its attempts."""
        owner, host = uuid.uuid4().hex, self.settings.name_of_host
        self.leased = LeasedStore(self.engine, owner, host, str(self.settings.root))
        self.lease = Lease(
            LeaseStore(self.engine, owner, host),
            host,
            self.settings.root,
            self.settings.lease_s,
            is_bound_to_host=True,
        )
        self.lease.has_lock = True
        assert self.lease.try_to_take() is None
        self.executor = LocalExecutor(self.settings.cpus, self.settings.gpus)
        self.mlflow = MlflowWorker(JobRuns(self.tracking))
        self.supervisor = Supervisor(
            self.settings, self.jobs, self.leased, self.executor, self.mlflow, self.lease, command=self._command
        )
        self.supervisor.adopt()

    def _command(self, run_dir: RunDir) -> tuple[str, ...]:
        return ("/bin/sh", "-c", self.jobs.config(run_dir.path.name)["script"])

    def submit(self, script: str = "", **more: Any) -> Job:
        config = {"name": "j", "script": script, "tracking": more.pop("tracking", None)}
        new = NewJob(**{"name": "j", "config": config, "priority": 0, "cpus": 1, "gpus": 0, **more})
        return self.jobs.submit(new)[0]

    def run_dir(self, job: Job) -> RunDir:
        return RunDir.of(self.settings.run_dir(job.id))

    def until(self, job: Job, *statuses: JobStatus) -> Job:
        """Let the supervisor run until the job is in one of the states."""

        def reached() -> Job | None:
            found = self.jobs.get(job.id)
            return found if found.status in statuses else None

        return self.wait_until(reached, self.supervisor.tick)

    def ended(self, job: Job) -> Job:
        return self.until(job, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)

    def file(self, job: Job, name: str, attempt: int = 1) -> Path:
        """Return a file of the attempt, once the attempt has written it."""
        path = self.run_dir(job).attempt(attempt) / name
        self.wait_until(lambda: path.exists() and path.read_text(), self.supervisor.tick)
        return path

    def events(self, job: Job) -> list[Event]:
        return self.jobs.events(job.id, after=0)

    def statuses(self, job: Job) -> list[str]:
        return [event.data["to"] for event in self.events(job) if event.kind == "status"]


@pytest.fixture
def bench(tmp_path: Path, migrated_path: Path) -> Iterator[Callable[..., Bench]]:
    """Return a function that creates a bench with other settings; processes of its jobs are killed afterward."""
    made: list[Bench] = []

    def make(tracking: Store | None = None, **settings: Any) -> Bench:
        root = tmp_path / f"root{len(made)}"
        root.mkdir()
        shutil.copy(migrated_path, root)
        made.append(Bench(root, tracking or Store("sqlite:////dev/null/none"), **settings))
        return made[-1]

    yield make
    for one in made:
        one.executor.sweep_orphans((), one.settings.jobs_dir)
        one.engine.dispose()


@pytest.fixture
def tracking(no_mlflow_settings: None, mlflow_runs_root: Path) -> Store:
    return find_store(mlflow_runs_root)
