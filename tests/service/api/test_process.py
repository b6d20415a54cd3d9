"""The API process, as `pyramidion serve` starts it."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import psutil

from service.child_process import child_environment
from service.settings import Settings
from tests.service.command_runs import frameworks_s
from tests.service.waiting import TIMEOUT_S, wait_until

Document = dict[str, Any]
RunApi = Callable[[Settings, Path], AbstractContextManager[tuple[subprocess.Popen[bytes], httpx2.Client]]]
HEAVY = {"torch", "lightning", "pytorch_lightning", "timm", "torchvision", "torchmetrics"}


def libraries(pid: int) -> set[str]:
    """Return the packages with shared libraries in the memory of a process."""
    paths = [
        line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "site-packages/" in line
    ]
    return {path.partition("site-packages/")[2].split("/")[0] for path in paths}


def test_every_route_works_without_torch_and_sigterm_stops_the_process_cleanly(
    run_api: RunApi, settings: Settings, document: Document, tmp_path: Path
) -> None:
    log = tmp_path / "log.txt"
    with run_api(settings, log) as (process, client):
        job = client.post("/v1/jobs", json={"config": document}).json()["id"]
        paths = [path for path, methods in client.get("/openapi.json").json()["paths"].items() if "get" in methods]
        urls = [re.sub(r"{\w+}", "x", path.replace("{job_id}", job)) for path in paths]
        of_models = [url for url in urls if "/models" in url]
        for url in (url for url in urls if url not in of_models):
            assert client.get(url).status_code in (200, 404, 422, 503), url
        assert libraries(process.pid) & (HEAVY | {"numpy", "pandas", "scipy"}) == set(), "MLflow was imported too early"
        for url in of_models:  # 503 with Retry-After until MLflow is imported, which takes long on a busy machine
            wait_until(lambda url=url: client.get(url).status_code in (200, 404, 422), f"answer of {url}")
        assert "pydantic_core" in libraries(process.pid), "shared libraries are not found in the process' memory"
        assert libraries(process.pid) & HEAVY == set()

        with client.stream("GET", f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as stream:
            lines = stream.iter_lines()
            assert next(lines)
            process.send_signal(signal.SIGTERM)
            list(lines)
            process.wait(TIMEOUT_S)
    # If the server had waited in vain for the end of the stream, it would have reported that.
    lines = log.read_text().splitlines()
    assert "/v1/jobs/{job_id}/events" in [json.loads(line)["route"] for line in lines], "requests, and nothing else"


def test_process_imports_no_heavy_module() -> None:
    """Unlike `/proc/<pid>/maps`, which shows only shared libraries, this also finds pure Python modules."""
    code = (
        "import json, sys, service.api.process; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), capture_output=True, check=True, timeout=60
    )
    assert set(json.loads(found.stdout)) & (HEAVY | {"mlflow", "alembic", "numpy", "pandas"}) == set()


def test_process_starts_quickly(run_api: RunApi, settings: Settings, tmp_path: Path) -> None:
    """Processor time instead of wall time, since other tests may be running; it takes three times the frameworks'."""
    with run_api(settings, tmp_path / "log") as (process, client):
        assert client.get("/livez").status_code == 200
        cpu = psutil.Process(process.pid).cpu_times()
    assert cpu.user + cpu.system < 5 * frameworks_s()


def test_process_exits_with_its_parent(settings: Settings, tmp_path: Path) -> None:
    parent = (
        "import socket, subprocess, sys\n"
        "from service.child_process import child_environment, python_command\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "fd = listener.fileno()\n"
        "child = subprocess.Popen(python_command('service.api.process', '--fd', str(fd)), pass_fds=[fd],\n"
        "                         env=child_environment())\n"
        "print(child.pid, listener.getsockname()[1], flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = child_environment({**settings.environment(), "HOME": str(tmp_path)})
    with subprocess.Popen(
        [sys.executable, "-c", parent], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        pid, port = map(int, process.stdout.readline().split())
        assert httpx2.get(f"http://127.0.0.1:{port}/livez", timeout=TIMEOUT_S).status_code == 200
        api = psutil.Process(pid)
        process.kill()
    api.wait(TIMEOUT_S)
