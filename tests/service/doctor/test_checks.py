"""Each check of the doctor finds the problem that it is for, and says what to do."""

import json
import os
import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from service.cli import main
from service.commands import doctor
from service.doctor import installation, machine
from service.doctor.findings import CheckResult, checked
from service.keys.use_cases import Keys
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.settings import Settings
from service.store.api_keys import KeyStore
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import NewJob
from service.store.supervisor_lease import LeaseStore
from service.store.tables import events


@pytest.fixture
def settings(tmp_path: Path, no_mlflow_settings: None) -> Settings:
    (tmp_path / "root").mkdir()
    return Settings(root=tmp_path / "root", min_free_bytes=1, port=1)


def outcomes(results: Iterable[CheckResult]) -> dict[str, str]:
    found = list(results)
    assert all(result.remedy or result.outcome == "ok" for result in found)
    return {result.name: result.outcome for result in found}


def test_new_installation_has_no_failed_check(settings: Settings) -> None:
    checks: list[Callable[[], Iterable[CheckResult]]] = [
        machine.python, machine.open_files, machine.shared_memory, lambda: machine.cores(settings),
        lambda: installation.root(settings), lambda: installation.database(settings),
        lambda: installation.mlflow(settings), lambda: installation.storage(settings),
    ]  # fmt: skip
    found = {name: outcome for check in checks for name, outcome in outcomes(check()).items()}
    assert "failed" not in found.values()
    assert {"python", "packages", "root", "disk space", "database", "keys", "mlflow", "storage"} <= set(found)
    assert list(settings.root.iterdir()) == []


def test_missing_and_unwritable_roots_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcomes(installation.root(Settings(root=tmp_path / "new"))) == {"root": "ok"}
    (tmp_path / "file").touch()
    assert outcomes(installation.root(Settings(root=tmp_path / "file/root"))) == {"root": "failed"}


def test_full_disk_fails_with_the_remedy(settings: Settings) -> None:
    (_, space) = installation.root(settings.model_copy(update={"min_free_bytes": 1 << 60}))
    assert (space.name, space.outcome) == ("disk space", "failed")
    assert "pyramidion gc" in space.remedy


def test_database_that_cannot_be_read_fails(settings: Settings) -> None:
    for url in ("postgresql://nobody@127.0.0.1:1/none", "mysql://x/y", "sqlite://"):
        assert outcomes(installation.database(Settings(root=settings.root, database_url=url))) == {"database": "failed"}
    (settings.root / "service.db").write_text("not a database, but text of some length" * 20)
    assert outcomes(checked("database", lambda: installation.database(settings)))["database"] == "failed"


def test_old_supervisor_future_events_and_missing_keys_are_found(settings: Settings) -> None:
    engine = open_database(settings.url_of_database)
    state = outcomes(installation.database(settings))
    assert state == {"database": "ok", "clock": "ok", "keys": "ok", "supervisor": "warning"}
    job = JobStore(engine).submit(NewJob("a", {}, 0, cpus=1, gpus=0))[0]
    assert LeaseStore(engine, "me", "host").take(None, None)
    assert outcomes(installation.database(settings))["supervisor"] == "ok"
    with engine.begin() as connection:
        row = {"job_id": job.id, "attempt": 1, "kind": "metric", "epoch": 0, "step": 0, "data": {}}
        connection.execute(insert(events).values(**row, time=time.time() + 86_400))
    public = Settings(root=settings.root, host="0.0.0.0", lease_s=settings.lease_s)
    found = outcomes(installation.database(public))
    assert (found["clock"], found["keys"]) == ("failed", "failed")
    Keys(KeyStore(engine)).create(LOCAL_USER, "ci", [Scope.JOBS_READ])
    assert outcomes(installation.database(public))["keys"] == "ok"


def test_mlflow_that_does_not_answer_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(settings.root / "mlflow.db")) as store, store:
        store.execute("CREATE TABLE other (id INTEGER)")
    assert outcomes(installation.mlflow(settings)) == {"mlflow": "failed"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert outcomes(installation.mlflow(settings)) == {"mlflow": "failed"}


def test_stopped_service_is_a_warning(settings: Settings) -> None:
    assert outcomes(installation.processes(settings)) == {"service": "warning"}


def test_limits_of_the_machine_are_compared(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    assert outcomes(machine.open_files()) == {"open files": "failed"}
    monkeypatch.setattr(machine, "MIN_SHARED_BYTES", 1 << 60)
    assert outcomes(machine.shared_memory()) == {"shared memory": "warning"}
    assert outcomes(machine.shared_memory(Path("/nowhere"))) == {"shared memory": "warning"}
    assert outcomes(machine.cores(settings.model_copy(update={"cpus": 10_000}))) == {"cores": "warning"}
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    monkeypatch.setattr(machine, "PACKAGES", ("torch", "torch-of-tomorrow"))
    assert outcomes(machine.python()) == {"python": "failed", "packages": "failed"}


def test_folders_of_ended_processes_are_found(tmp_path: Path) -> None:
    (tmp_path / "pyramidion-new").mkdir()
    assert outcomes(machine.temporary_folder(tmp_path)) == {"temporary folder": "ok"}
    (tmp_path / "pyramidion-old").mkdir()
    os.utime(tmp_path / "pyramidion-old", (0, 0))
    (result,) = machine.temporary_folder(tmp_path)
    assert (result.outcome, result.detail) == ("warning", f"1 folders of ended processes in {tmp_path}")


def test_error_of_a_check_is_its_result() -> None:
    def broken() -> Iterable[CheckResult]:
        raise OSError("no such device")

    (result,) = checked("device", broken)
    assert (result.name, result.outcome, result.detail) == ("device", "failed", "OSError: no such device")


def test_command_prints_json_and_fails_with_a_failed_check(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor.machine, "torch", lambda settings: [])  # it takes seconds, see below
    monkeypatch.setenv("PYRAMIDION_ROOT", str(settings.root))
    arguments = ["doctor", "--port", "1", "--min-free-bytes", "1"]
    assert main([*arguments, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert {"name", "outcome", "detail", "remedy"} == set(found[0])
    assert main([*arguments, "--cpus", "0"]) == 1
    assert "--cpus" in capsys.readouterr().out
    assert main([*arguments, "--executor", "none"]) == 1
    assert "1 of " in capsys.readouterr().out


@pytest.mark.slow
def test_torch_and_torchvision_work_together(settings: Settings) -> None:
    assert outcomes(machine.torch(settings)) == {"torch": "ok"}
    assert outcomes(machine.torch(settings.model_copy(update={"gpus": 1000}))) == {"torch": "failed"}


def test_attempts_in_another_root_or_on_another_host_are_reported(settings: Settings) -> None:
    engine = open_database(settings.url_of_database)
    job = JobStore(engine).submit(NewJob("j", {}, 0, cpus=1, gpus=0))[0]
    assert LeasedStore(engine, "owner", "far away", "/other/root").claim(job.id, []) is not None
    engine.dispose()
    found = [one for one in installation.database(settings) if one.name == "attempts"]
    assert [(one.outcome, one.remedy.partition(";")[0]) for one in found] == [
        ("failed", "give all services of a database the same root"),
        ("warning", "keep a supervisor on that host"),
    ]
    assert "/other/root" in found[0].detail
    assert "far away" in found[1].detail
    assert [one for one in installation.database(away(settings)) if one.name == "attempts"] == []


def away(settings: Settings) -> Settings:
    """Return the settings of a supervisor on that host."""
    return settings.model_copy(
        update={"supervisor_host": "far away", "root": Path("/other/root"), "database_url": settings.url_of_database}
    )
