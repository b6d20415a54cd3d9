"""A restore destroys nothing, says so when it was interrupted, and can be repeated then."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from pipelines.base.errors import ConfigError
from service.backup.create import create_backup
from service.backup.manifest import read_manifest
from service.backup.restore import restore_backup
from service.doctor.installation import root as check_root
from service.server.prerequisites import check_folders
from service.settings import Settings
from service.states import JobStatus
from service.store.copies import load_rows
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob
from service.store.supervisor_lease import LeaseStore

DEAD_S = 0.6


class Interrupted(BaseException):
    """In the place of SIGKILL."""


class Backup:
    """A backup of a service with one running job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "backup"
        self._below = folder
        settings = Settings(root=folder / "old")
        engine = open_database(settings.url_of_database)
        self.job = JobStore(engine).submit(NewJob("j", {"name": "j"}, 0, cpus=1, gpus=0))[0].id
        assert LeasedStore(engine, "test").claim(self.job, []) is not None
        run_dir = settings.run_dir(self.job)
        run_dir.mkdir(parents=True)
        (run_dir / "job.yaml").write_text("name: j\n")
        (settings.jobs_dir / "without-a-row").mkdir()
        (settings.jobs_dir / "without-a-row" / "job.yaml").touch()
        create_backup(settings, engine, self.folder)
        engine.dispose()

    def settings(self, url: str | None, name: str = "new") -> Settings:
        return Settings(root=self._below / name, database_url=url, lease_s=DEAD_S)

    def restore(self, settings: Settings, report: Callable[[str], None] = lambda line: None) -> None:
        restored = restore_backup(settings, self.folder, report)
        assert restored.resumed == [self.job]

    def require_restored(self, settings: Settings) -> None:
        engine = open_database(settings.url_of_database)
        (job,) = JobStore(engine).page()
        engine.dispose()
        assert (job.id, job.status) == (self.job, JobStatus.QUEUED)
        assert (settings.run_dir(self.job) / "job.yaml").read_text() == "name: j\n"
        assert [path.name for path in settings.jobs_dir.iterdir()] == [self.job]
        check_folders(settings.model_copy(update={"data_roots": (), "weights_roots": ()}))


@pytest.fixture
def backup(tmp_path: Path, no_mlflow_settings: None) -> Backup:
    return Backup(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database outside of the root."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'other.db'}"
    return str(request.getfixturevalue("postgres_url"))


@contextmanager
def supervisor(engine: Engine) -> Iterator[None]:
    """Renew the lease as a supervisor does."""
    store, over = LeaseStore(engine, "owner", "far away"), threading.Event()
    assert store.take(None, None)

    def renew() -> None:
        while not over.wait(DEAD_S / 5):
            store.renew(None)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_database_of_a_running_service_is_refused_and_unchanged(backup: Backup, url: str) -> None:
    settings, engine = backup.settings(url).model_copy(update={"lease_s": 60.0}), open_database(url)
    with supervisor(engine), pytest.raises(ValueError, match=r"used by a running service: .* on host far away; stop"):
        backup.restore(settings)
    assert not settings.root.exists()
    assert JobStore(engine).page() == []
    # A supervisor that was killed has the lease, but no heartbeat.
    backup.restore(backup.settings(url))
    backup.require_restored(settings)
    engine.dispose()


@pytest.mark.parametrize("step", ["verified", "copied"])
def test_interrupted_restore_is_reported_and_can_be_repeated(
    backup: Backup, step: str, url: str, tmp_path: Path
) -> None:
    settings = backup.settings(url)

    def interrupt(line: str) -> None:
        if step in line:
            raise Interrupted

    with pytest.raises(Interrupted):
        backup.restore(settings, interrupt)
    if step == "copied":
        with pytest.raises(ConfigError, match="has not finished or was interrupted; wait for it, or run it again"):
            check_folders(settings)
        engine = open_database(url)
        with pytest.raises(ConfigError, match="has not finished or was interrupted"):
            create_backup(settings, engine, tmp_path / "of an incomplete root")
        engine.dispose()
        (found,) = (one for one in check_root(settings) if one.name == "root")
        assert (found.outcome, found.remedy) == ("failed", "run the same `pyramidion restore` again")
        (settings.root / "jobs" / "incomplete").write_text("half")
    backup.restore(settings)
    backup.require_restored(settings)


def test_rows_of_an_interrupted_restore_are_replaced_and_those_of_a_service_are_not(backup: Backup, url: str) -> None:
    manifest = read_manifest(backup.folder)
    with (backup.folder / "database.jsonl").open() as rows:
        load_rows(url, rows, manifest.schema_version, manifest.numbers).dispose()
    settings = backup.settings(url)
    backup.restore(settings)
    backup.require_restored(settings)
    with pytest.raises(ValueError, match=r"has rows in \w+, so it belongs to a service; restore into an empty one"):
        backup.restore(backup.settings(url, "another"))
    assert not (settings.root.parent / "another").exists()
    backup.require_restored(settings)


def test_root_that_restore_has_not_written_is_refused(backup: Backup, tmp_path: Path) -> None:
    settings: Any = backup.settings(None)
    settings.root.mkdir()
    (settings.root / "file").touch()
    with pytest.raises(ConfigError, match="is not an empty folder; restore into a new one"):
        backup.restore(settings)
    assert [path.name for path in settings.root.iterdir()] == ["file"]
