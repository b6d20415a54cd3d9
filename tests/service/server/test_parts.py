"""The parts of the service as processes of their own, and their health."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.base.errors import ConfigError
from service.commands.serve import run
from tests.service.command_runs import pyramidion
from tests.service.waiting import wait_until


class RunningPart:
    """A part of a service, its address and its log."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = folder / "log"
        words = ("serve", *arguments, "--root", str(folder / "root"))
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PYRAMIDION_HANG_TIMEOUT_S": "12"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                pyramidion(words), env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[RunningPart]:
    part = RunningPart(folder, "api", "--port", "0")
    yield part
    part.stop()


@pytest.fixture(scope="module")
def port(api: RunningPart) -> str:
    assert api.process.stdout is not None
    return api.process.stdout.readline().partition(",")[0].rpartition(":")[2]


def test_api_alone_is_healthy_without_a_supervisor(
    port: str, api: RunningPart, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "health", "api", "--port", port]) == 0
    assert run(["serve", "health", "supervisor", "--root", str(folder / "root")]) == 1
    healthy, unhealthy = capsys.readouterr().out.splitlines()
    assert healthy == "the api is healthy"
    assert unhealthy.startswith("no supervisor is running; start one")
    assert len(psutil.Process(api.process.pid).children(recursive=True)) == 1


def test_api_that_hangs_is_replaced(port: str, api: RunningPart) -> None:
    [hung] = psutil.Process(api.process.pid).children()
    hung.send_signal(signal.SIGSTOP)
    wait_until(lambda: "the API process hangs" in api.log.read_text(), "the hung process is killed", 120)
    wait_until(lambda: run(["serve", "health", "api", "--port", port]) == 0, "another process answers", 120)


def test_part_stops_with_its_process(port: str, api: RunningPart) -> None:
    children = psutil.Process(api.process.pid).children(recursive=True)
    assert api.stop() == 0
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert api.log.read_text().splitlines()[-1] == "pyramidion serve: stopped"
    assert run(["serve", "health", "api", "--port", port]) == 1


def test_supervisor_is_healthy_while_its_heartbeats_arrive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRAMIDION_LEASE_S", "2")
    command = ["serve", "health", "supervisor", "--root", str(tmp_path / "root")]
    assert run(command) == 1
    assert "service.db does not exist" in capsys.readouterr().out
    supervisor = RunningPart(tmp_path, "supervisor")
    try:
        wait_until(lambda: run(command) == 0, "it is healthy", 120)
        [child] = psutil.Process(supervisor.process.pid).children()
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: run(command) == 1, "it is not healthy", 120)
        assert "has sent no heartbeat for 2 s" in capsys.readouterr().out.splitlines()[-1]
    finally:
        assert supervisor.stop() == 0
    assert run(command) == 1


def test_predictor_needs_an_address(folder: Path) -> None:
    for words in (["predictor"], ["health", "predictor"]):
        with pytest.raises(ConfigError, match="--predictor-url or PYRAMIDION_PREDICTOR_URL: missing"):
            run(["serve", *words, "--root", str(folder / "root")])


@pytest.mark.slow
def test_predictor_alone_is_replaced_when_it_hangs(tmp_path: Path) -> None:
    url = f"unix:{tmp_path}/predictor.sock"
    predictor = RunningPart(tmp_path, "predictor", "--predictor-url", url, "--predictor-check-timeout-s", "2")

    def is_healthy() -> bool:
        return run(["serve", "health", "predictor", "--predictor-url", url]) == 0

    try:
        wait_until(is_healthy, "the predictor starts", 240)
        [hung] = psutil.Process(predictor.process.pid).children()
        hung.send_signal(signal.SIGSTOP)
        wait_until(lambda: "the predictor process hangs" in predictor.log.read_text(), "the process is killed", 300)
        wait_until(is_healthy, "another process answers", 240)
    finally:
        assert predictor.stop() == 0


def test_unknown_part_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["serve", "health", "apii"])
    assert "invalid choice: 'apii'" in capsys.readouterr().err
