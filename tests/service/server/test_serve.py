"""`pyramidion serve` as processes that are started, killed and stopped."""

import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.child_process import child_environment
from service.commands.serve import ONLY_VARIABLES
from service.settings import Settings
from tests.service.command_runs import frameworks_s
from tests.service.conftest import OwnService
from tests.service.waiting import TIMEOUT_S, wait_until

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = sorted(set(Settings.model_fields) - ONLY_VARIABLES)
"""Settings that are options: secrets are not, as other users see the command line of a process."""


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory, demo_root: Path) -> Iterator[OwnService]:
    shared = OwnService(tmp_path_factory.mktemp("shared"), demo_root.parent)
    yield shared
    shared.close()


@pytest.fixture
def service(shared_service: OwnService) -> OwnService:
    """A running service for all tests of this module, started again if a test has stopped it."""
    if shared_service.process is None or shared_service.process.poll() is not None:
        shared_service.start()
    return shared_service


def get(url: str, path: str) -> int:
    """Return the status of one request on its own connection, without retries."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)
    connection.request("GET", path)
    return connection.getresponse().status


def test_serve_is_ready_soon_and_prints_its_address(own_service: Any) -> None:
    line = own_service.start()
    serve = psutil.Process(own_service.process.pid)
    times = [process.cpu_times() for process in (serve, *serve.children(recursive=True))]
    # Processor time, since other tests may be running; it takes six times that of the frameworks.
    assert sum(time.user + time.system for time in times) < 10 * frameworks_s()
    assert line == f"serving {own_service.url}, root {own_service.root}"
    assert get(own_service.url, "/readyz") == 200


def test_sigterm_stops_the_service_and_its_processes_soon(service: Any) -> None:
    children = psutil.Process(service.process.pid).children(recursive=True)
    assert len(children) == 2
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(TIMEOUT_S) == 0
    assert [child for child in children if child.is_running()] == []
    assert service.log().splitlines()[-1] == "pyramidion serve: stopped; no job was running"


def test_processes_exit_if_serve_is_killed_and_it_can_start_again(service: Any) -> None:
    children = psutil.Process(service.process.pid).children(recursive=True)
    service.process.kill()
    service.process.wait()
    assert psutil.wait_procs(children, timeout=TIMEOUT_S)[1] == []
    service.start()
    assert get(service.url, "/readyz") == 200


def test_connections_succeed_while_a_killed_api_is_restarted(service: Any) -> None:
    before = len(service.log())
    for _ in range(2):
        service.pid_of("service.api.process", kill=True)
        assert get(service.url, "/livez") == 200
    assert service.log()[before:].count("the API process was terminated by SIGKILL") == 2


def test_killed_supervisor_is_started_again(service: Any) -> None:
    logged = len(service.log())
    before = service.pid_of("service.supervisor.process", kill=True)
    wait_until(lambda: service.pid_of("service.supervisor.process") != before, "another supervisor")
    wait_until(lambda: get(service.url, "/readyz") == 200, "the lease of the other supervisor")
    lines = service.log()[logged:].splitlines()
    [line] = [line for line in lines if "the supervisor process was terminated by SIGKILL" in line]
    assert "restarting it" in line


def test_second_service_on_the_same_root_is_rejected(service: Any) -> None:
    second = service.run("serve", "--root", str(service.root), "--port", "0")
    assert (second.returncode, second.stdout) == (1, "")
    [line] = second.stderr.splitlines()
    assert f"is already served by process {service.process.pid} at {service.url}" in line


def test_port_in_use_is_reported(own_service: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = own_service.run("serve", "--root", str(own_service.root), "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port} (Address already in use)")


def test_service_exits_if_a_process_fails_repeatedly(own_service: Any) -> None:
    own_service.root.mkdir()
    (own_service.root / "service.db").write_bytes(b"not a database" * 1000)
    done = own_service.run("serve", "--root", str(own_service.root), "--port", "0")
    assert done.returncode not in (0, -signal.SIGTERM)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: the ")
    assert "process exited with code" in last


def test_invalid_settings_are_reported_one_per_line(own_service: Any) -> None:
    done = own_service.check_settings("--port", "99999", "--data-root", "x", PYRAMIDION_CPUS="none")
    assert (done.returncode, done.stdout) == (78, "")
    assert [line.partition(";")[0] for line in done.stderr.splitlines()] == [
        "error: --port: got '99999'",
        "error: PYRAMIDION_CPUS: got 'none'",
    ]
    done = own_service.check_settings("--root", str(own_service.root), "--data-root", "x", "y")
    assert done.returncode == 78
    assert done.stderr.count("error: --data-root or PYRAMIDION_DATA_ROOTS: the folder") == 2


def test_settings_that_would_fail_later_are_rejected_at_startup(own_service: Any, tmp_path: Path) -> None:
    odd = tmp_path / "a:b"
    odd.mkdir()
    done = own_service.check_settings("--root", str(own_service.root), "--data-root", str(odd))
    assert (done.returncode, done.stderr.count("':' separates folders")) == (78, 1)
    done = own_service.check_settings("--root", str(own_service.root), PYRAMIDION_POLL_S="inf")
    assert (done.returncode, done.stderr.count("PYRAMIDION_POLL_S: got 'inf'")) == (78, 1)


def test_address_that_other_machines_reach_is_refused_without_keys(own_service: Any) -> None:
    done = own_service.check_settings("--root", str(own_service.root), "--host", "0.0.0.0")
    assert (done.returncode, done.stderr.count("--host or PYRAMIDION_HOST: got '0.0.0.0'")) == (78, 1)
    assert "pyramidion keys create" in done.stderr


def test_full_disk_is_reported_by_the_process_that_needs_it(own_service: Any) -> None:
    own_service.root.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "serve", "--root", str(own_service.root), "--port", "0"],
        env=child_environment({**os.environ, "PYRAMIDION_DATABASE_URL": "here"}), capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)), timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 78  # the URL of the database, which its processes reject
    assert "PYRAMIDION_DATABASE_URL: cannot be used" in done.stderr


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRAMIDION_ROOT", "")
    monkeypatch.setenv("PYRAMIDION_PORT", "")
    assert Settings().root == Path("runs/service").resolve()
    assert Settings().port == 8000


def test_help_lists_every_setting_and_its_variable(own_service: Any) -> None:
    text = " ".join(own_service.check_settings("--help").stdout.split())
    assert [name for name in OPTIONS if f"PYRAMIDION_{name.upper()}" not in text] == []
    assert "--data-root DIR" in text


def test_serve_imports_no_heavy_library() -> None:
    code = "import sys, service.commands.serve\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"fastapi", "sqlalchemy", "uvicorn", "mlflow", "torch", "httpx2"} & set(done.stdout.split()) == set()


def test_folders_are_repeated_or_listed_in_the_singular_or_plural(own_service: Any, tmp_path: Path) -> None:
    arguments = ["--data-root", "a,b", "c", "--data-roots", "d", "--data-root", "e", "--weights-root", "w"]
    done = own_service.check_settings("--root", str(own_service.root), *arguments)
    missing = [line.split("'")[1] for line in done.stderr.splitlines()]
    assert missing == [str(tmp_path / name) for name in ("a,b", "c", "d", "e", "w")]


def test_options_take_precedence_over_variables_and_invalid_values_are_reported(own_service: Any) -> None:
    done = own_service.check_settings("--cpus", "0", PYRAMIDION_CPUS="x", PYRAMIDION_GPUS="-1")
    assert [line.partition(";")[0] for line in done.stderr.splitlines()] == [
        "error: --cpus: got '0'",
        "error: PYRAMIDION_GPUS: got '-1'",
    ]
    done = own_service.check_settings("--prot", "1")
    assert (done.returncode, "unrecognized arguments: --prot 1" in done.stderr) == (2, True)


def test_every_setting_has_an_option_with_a_description(own_service: Any) -> None:
    text = own_service.check_settings("--help").stdout
    assert [name for name in OPTIONS if f"--{name.replace('_', '-')} " not in text] == []
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
