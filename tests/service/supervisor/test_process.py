"""The supervisor as a process: its lock, its signals, its imports, and jobs with the real trainer."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.run_folder.layout import RunDir
from service.settings import Settings
from service.states import JobStatus
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.records import NewJob
from tests.service.waiting import TIMEOUT_S, wait_until

ROOT = Path(__file__).parents[3]


def wait_while_running(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Return the first true result of `condition`; the process must not end before."""

    def is_met() -> Any:
        answer = condition()
        assert answer or process.poll() is None
        return answer

    return wait_until(is_met, "the condition")


@pytest.fixture
def settings(tmp_path: Path, demo_root: Path) -> Settings:
    settings = Settings(root=tmp_path / "root", data_roots=(demo_root.parent,), cpus=1, gpus=0, poll_s=0.05)
    settings.root.mkdir()
    return settings


@pytest.fixture
def start(settings: Settings) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a supervisor, which logs to `<root>/log`; running ones are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start_one(**more: str) -> subprocess.Popen[str]:
        environment = {
            name: text for name, text in os.environ.items() if not name.startswith(("PYRAMIDION_", "MLFLOW"))
        }
        environment |= settings.environment() | {"PYTHONPATH": str(ROOT)} | more
        with (settings.root / "log").open("a") as log:
            command = [sys.executable, "-m", "service.supervisor.process"]
            started.append(subprocess.Popen(command, stderr=log, text=True, env=environment, cwd=settings.root))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def log_of(settings: Settings) -> str:
    return (settings.root / "log").read_text()


def test_starting_the_supervisor_does_not_import_torch_or_mlflow() -> None:
    heavy = {"torch", "lightning", "timm", "mlflow", "alembic", "fastapi"}
    code = f"import sys, service.supervisor.process; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.strip() == "set()"


def test_second_supervisor_of_a_root_stands_by_and_takes_over_when_the_first_is_killed(
    settings: Settings, start: Callable[..., subprocess.Popen[str]]
) -> None:
    jobs = JobStore(open_database(settings.url_of_database))
    first = start()
    wait_while_running(jobs.supervisor_lease, first)
    second = start()
    wait_while_running(
        lambda: f"stands by: another supervisor runs the jobs: process {first.pid} " in log_of(settings), second
    )
    first.kill()
    wait_while_running(lambda: (lease := jobs.supervisor_lease()) and lease.pid == second.pid, second)
    second.send_signal(signal.SIGTERM)
    assert second.wait(TIMEOUT_S) == 0
    lease = jobs.supervisor_lease()
    assert lease is not None
    assert lease.owner is None


def test_invalid_settings_exit_with_78_and_one_log_line(
    settings: Settings, start: Callable[..., subprocess.Popen[str]]
) -> None:
    assert start(PYRAMIDION_CPUS="none").wait(TIMEOUT_S) == 78
    (line,) = log_of(settings).splitlines()
    assert line.startswith("supervisor: ")
    assert "cpus" in line


@pytest.mark.integration
def test_signal_ends_the_supervisor_but_not_its_job(
    settings: Settings, start: Callable[..., subprocess.Popen[str]], small_document: dict[str, Any]
) -> None:
    jobs = JobStore(open_database(settings.url_of_database))
    small_document["trainer"]["max_epochs"] = 3
    job, _ = jobs.submit(NewJob(name="small", config=small_document, priority=0, cpus=1, gpus=0))
    run_dir = RunDir.of(settings.run_dir(job.id))

    def trainer() -> int:
        return int(json.loads((run_dir.attempt(1) / "run.json").read_text())["trainer_pid"])

    first = start()
    wait_while_running(lambda: jobs.get(job.id).progress, first)
    pid = trainer()
    first.send_signal(signal.SIGTERM)
    assert first.wait(TIMEOUT_S) == 0

    second = start()
    wait_while_running(lambda: "adopted" in log_of(settings), second)
    assert psutil.pid_exists(pid)
    second.kill()
    second.wait()

    third = start()
    ended = wait_while_running(lambda: (found := jobs.get(job.id)).status.is_terminal and found, third)
    assert (ended.status, ended.attempt) == (JobStatus.SUCCEEDED, 1), log_of(settings)
    assert trainer() == pid
    assert json.loads(run_dir.result.read_text())["split"] == "test"
    recorded = [event for event in jobs.events(job.id, 0, limit=10_000) if event.kind != "status"]
    lines = [json.loads(line) for line in run_dir.events.read_text().splitlines()]
    assert [(event.kind, event.epoch, event.step, event.data) for event in recorded] == [
        (line["kind"], line["epoch"], line["step"], line["data"]) for line in lines
    ]
    third.send_signal(signal.SIGTERM)
    assert third.wait(TIMEOUT_S) == 0
