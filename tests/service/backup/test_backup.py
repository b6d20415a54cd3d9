"""A backup that is made while jobs run restores into another root and database, where the jobs continue."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select

from pipelines.base.errors import ConfigError
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.tracking_files import TrackingState
from service.backup.create import create_backup
from service.backup.restore import Restored, restore_backup
from service.settings import Settings
from service.states import JobStatus
from service.store.copies import DatabaseCopy, dump_rows, load_rows
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob
from service.store.tables import events, metadata
from tests.service.supervisor.conftest import Bench

CHECKPOINT = "../../checkpoints/last.ckpt"
SCRIPT = f"""
mkdir -p ../../checkpoints
if test -e {CHECKPOINT}; then cat {CHECKPOINT} > ../../result.json; exit 0; fi
echo '{{"from": "the first attempt"}}' > {CHECKPOINT}
touch ready
exec sleep 600
"""


@pytest.fixture
def old(tmp_path: Path, no_mlflow_settings: None) -> Iterator[Bench]:
    from pipelines.tracking.mlflow_store import Store

    bench = Bench(tmp_path / "old", Store("sqlite:////dev/null/none"))
    yield bench
    bench.executor.sweep_orphans((), bench.settings.jobs_dir)
    bench.engine.dispose()


def settings_at(bench: Bench, root: Path, **more: Any) -> Settings:
    return Settings(**{**bench.settings.model_dump(exclude_none=True), "root": root, **more})


def restored(bench: Bench, tmp_path: Path, **settings: Any) -> tuple[Settings, Restored]:
    create_backup(bench.settings, bench.engine, tmp_path / "backup")
    new = settings_at(bench, tmp_path / "new", **settings)
    return new, restore_backup(new, tmp_path / "backup")


def rows(engine: Engine) -> dict[str, list[Any]]:
    with engine.connect() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(select(table))))
            for table in metadata.sorted_tables
            if table.name not in ("supervisor_leases", "write_probes")
        }


def test_running_job_continues_from_its_checkpoint_in_the_new_root(old: Bench, tmp_path: Path) -> None:
    running, queued, done = old.submit(SCRIPT), old.submit(SCRIPT), old.submit(Bench.SUCCEED)
    old.jobs.set_priority(done.id, 9)
    assert old.ended(done).status is JobStatus.SUCCEEDED
    (old.run_dir(done).path / "attempts/1/log.txt").write_text("all is well\n")
    old.until(running, JobStatus.RUNNING)
    old.wait_until((old.run_dir(running).attempt(1) / "ready").exists, old.supervisor.tick)
    new_settings, outcome = restored(old, tmp_path)
    assert running.id in outcome.resumed
    assert done.id not in outcome.resumed

    service = Bench(new_settings.root, old.tracking)
    try:
        assert service.jobs.get(done.id).status is JobStatus.SUCCEEDED
        assert (service.run_dir(done).path / "attempts/1/log.txt").read_text() == "all is well\n"
        assert service.ended(running).status is JobStatus.SUCCEEDED
        assert json.loads(service.run_dir(running).result.read_text()) == {"from": "the first attempt"}
        first, second = service.jobs.attempts(running.id)
        assert (first.outcome, second.outcome) == ("stopped", "succeeded")
        assert service.jobs.get(running.id).failures == 0
        assert service.statuses(running)[-5:] == ["queued", "starting", "running", "finalizing", "succeeded"]
        assert service.jobs.get(queued.id).attempt >= 0
    finally:
        service.executor.sweep_orphans((), service.settings.jobs_dir)
        service.engine.dispose()
    # The service that was backed up has noticed nothing.
    assert old.jobs.get(running.id).status is JobStatus.RUNNING


def test_damaged_backup_is_refused_before_anything_is_written(old: Bench, tmp_path: Path) -> None:
    job = old.submit(Bench.SUCCEED)
    old.ended(job)
    backup, new = tmp_path / "backup", settings_at(old, tmp_path / "new")
    create_backup(old.settings, old.engine, backup)
    copy = backup / "files/jobs" / job.id / "result.json"
    content = copy.read_bytes()
    copy.write_bytes(b"{ }" + content[3:])
    with pytest.raises(ConfigError, match=rf"is damaged: jobs/{job.id}/result.json cannot be read or have changed"):
        restore_backup(new, backup)
    copy.write_bytes(content)
    (backup / "database.jsonl").write_text("")
    with pytest.raises(ConfigError, match=r"is damaged: database\.jsonl"):
        restore_backup(new, backup)
    (backup / "manifest.json").unlink()
    with pytest.raises(ConfigError, match="is not a complete backup"):
        restore_backup(new, backup)
    assert not new.root.exists()


def test_path_out_of_the_backup_is_refused(old: Bench, tmp_path: Path) -> None:
    backup, new = tmp_path / "backup", settings_at(old, tmp_path / "new")
    create_backup(old.settings, old.engine, backup)
    (tmp_path / "secret").write_text("0")
    digest = hashlib.sha256(b"0").hexdigest()
    (backup / "files.jsonl").write_text(json.dumps(["../../secret", 1, digest]) + "\n")
    manifest = json.loads((backup / "manifest.json").read_text())
    manifest["files_sha256"] = hashlib.sha256((backup / "files.jsonl").read_bytes()).hexdigest()
    (backup / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=r"is damaged: \.\./\.\./secret"):
        restore_backup(new, backup)
    assert not new.root.exists()


def test_only_empty_folders_are_written(old: Bench, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(ConfigError, match="is not an empty folder"):
        create_backup(old.settings, old.engine, tmp_path / "full")
    with pytest.raises(ConfigError, match="is in the root of the service"):
        create_backup(old.settings, old.engine, old.settings.root / "backup")
    create_backup(old.settings, old.engine, tmp_path / "backup")
    with pytest.raises(ConfigError, match="is not an empty folder; restore into a new one"):
        restore_backup(settings_at(old, tmp_path / "full"), tmp_path / "backup")
    used = settings_at(old, tmp_path / "new", database_url=old.settings.url_of_database)
    old.submit()
    with pytest.raises(ValueError, match=r"has rows in \w+, so it belongs to a service; restore into an empty one"):
        restore_backup(used, tmp_path / "backup")


def test_addresses_of_the_old_root_become_those_of_the_new_one(old: Bench, tmp_path: Path) -> None:
    root = old.settings.root
    with closing(sqlite3.connect(root / "mlflow.db")) as store, store:
        store.execute("CREATE TABLE runs (id INTEGER, artifact_uri VARCHAR(200), name TEXT)")
        store.execute("INSERT INTO runs VALUES (1, ?, ?)", (f"file://{root}/mlartifacts/1", f"of {root}/x"))
    job = old.submit(Bench.SUCCEED)
    old.ended(job)
    TrackingState(tracking_uri=f"sqlite:///{root}/mlflow.db", run_id="r").write(old.run_dir(job).tracking_state)
    (root / "mlartifacts").mkdir()
    (root / "mlartifacts/model.json").write_text("{}")
    (root / "models").mkdir()
    (root / "models/cached").touch()
    new, _ = restored(old, tmp_path)
    with closing(sqlite3.connect(new.root / "mlflow.db")) as store:
        assert store.execute("SELECT artifact_uri, name FROM runs").fetchall() == [
            (f"file://{new.root}/mlartifacts/1", f"of {root}/x")
        ]
    state = TrackingState.read(RunDir.of(new.run_dir(job.id)).tracking_state)
    assert (state.tracking_uri, state.run_id) == (f"sqlite:///{new.root}/mlflow.db", "r")
    assert (new.root / "mlartifacts/model.json").exists()
    assert not (new.root / "models").exists()


def filled(url: str) -> Engine:
    engine = open_database(url)
    store, leases = JobStore(engine), LeasedStore(engine, "test")
    for number in range(3):
        store.submit(NewJob("a", {"name": "a", "ä": [None, 1e-3]}, number, cpus=1, gpus=0), f"key{number}", "hash")
    deleted = store.submit(NewJob("b", {}, 0, cpus=1, gpus=0))[0]
    store.request_cancel(deleted.id)
    store.delete(deleted.id)
    job = leases.claim(store.page()[0].id, ["0"])
    assert job is not None
    with engine.begin() as connection:
        row = {
            "job_id": job.id,
            "attempt": 1,
            "time": 0.1,
            "kind": "metric",
            "epoch": 0,
            "step": 0,
            "data": {"x": None},
        }
        connection.execute(insert(events), [row] * 1200)
    return engine


def copied(engine: Engine, url: str) -> tuple[DatabaseCopy, Engine]:
    lines: list[str] = []
    copy = dump_rows(engine, lines.append)
    return copy, load_rows(url, lines, copy.schema, copy.numbers)


@pytest.mark.parametrize("kinds", ["sqlite sqlite", "sqlite postgresql", "postgresql sqlite"])
def test_rows_are_the_same_in_a_database_of_either_kind(
    kinds: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    def url(kind: str, name: str) -> str:
        postgres: str = request.getfixturevalue("postgres_url") if kind == "postgresql" else ""
        return postgres or f"sqlite:///{tmp_path / name}"

    source, target = kinds.split()
    original = filled(url(source, "a.db"))
    copy, engine = copied(original, url(target, "b.db"))
    try:
        assert copy.num_rows["events"] == 1204
        assert rows(engine) == rows(original)
        highest = original_numbers(original)
        new = JobStore(engine).submit(NewJob("new", {}, 0, cpus=1, gpus=0))[0]
        assert new.number > highest
        with engine.connect() as connection:
            unset = metadata.tables["jobs"].c.progress.is_(None)
            assert len(connection.execute(select(metadata.tables["jobs"].c.id).where(unset)).all()) == 4
    finally:
        for one in (engine, original):
            one.dispose()


def original_numbers(engine: Engine) -> int:
    """Return the number of the job that was deleted."""
    return max(job.number for job in JobStore(engine).page()) + 1
