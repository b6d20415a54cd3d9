"""The whole service as processes: `pyramidion serve`, a data set, small documents, and ways to kill its parts."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.postgres import TEMPLATE, create_database
from tests.service.waiting import TIMEOUT_S, wait_until

ROOT = Path(__file__).parents[3]
TERMINAL = {"succeeded", "failed", "cancelled"}
Document = dict[str, Any]
ADOPTING = (
    sys.executable, "-c",
    "import os, sys; from service.child_process import adopt_orphans as a; a(); os.execv(sys.argv[1], sys.argv[1:])",
)  # fmt: skip
"""Runs a command as the parent of its orphans."""


class Service:
    """A service with its own folder; jobs may use `cpus` cores in total.

    With `inherits_orphans`, its processes are related as in a container, where `serve` is the first process.
    `variables` are further settings.
    """

    def __init__(
        self,
        root: Path,
        data_root: Path,
        cpus: int,
        database_url: str = "",
        *,
        inherits_orphans: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.root, self.data_root, self.cpus, self.database_url = root, data_root, cpus, database_url
        self.inherits_orphans, self.variables = inherits_orphans, variables or {}
        self.log = root.parent / f"{root.name}.log"
        self.client = httpx2.Client(timeout=TIMEOUT_S)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("MLFLOW", "PYRAMIDION"))}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYRAMIDION_CPUS": str(self.cpus)}
        environment |= {"PYRAMIDION_RETRY_DELAY_S": "0.1", "PYRAMIDION_GPUS": "0"}
        environment |= {"PYRAMIDION_DATABASE_URL": self.database_url, **self.variables}
        arguments = ["serve", "--root", str(self.root), "--port", "0", "--data-root", str(self.data_root)]
        with self.log.open("ab") as log:
            position = log.tell()
            self.process = subprocess.Popen(
                [*(ADOPTING if self.inherits_orphans else ()), sys.executable, "-P", "-m", "service.cli", *arguments],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, cwd=self.root.parent,
            )  # fmt: skip

        def address() -> str | None:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            with self.log.open("rb") as log:
                log.seek(position)
                found = re.search(rb"serving (http://127\.0\.0\.1:\d+)", log.read())
            return found and found.group(1).decode()

        self.client.base_url = httpx2.URL(wait_until(address, "ready"))

    def stop(self) -> int:
        """Stop the service as an operator does, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)

    def kill_all(self) -> None:
        """Kill serve and its children; the attempts continue."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pid_of(self, part: str) -> int | None:
        """Return the pid of a process, such as `service.api.process`; None if it is not running."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children():
            try:
                if part in child.cmdline():
                    return child.pid
            except psutil.Error:
                continue
        return None

    def ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """Send a request; send it again if the API was killed meanwhile."""
        for _ in range(200):
            try:
                return self.client.request(method, path, **more)
            except httpx2.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"{method} {path}: no answer; {self.log.read_text()[-3000:]}")

    def submit(self, document: Document, **more: Any) -> str:
        headers = {"Idempotency-Key": os.urandom(8).hex()}
        answer = self.ask(
            "POST", "/v1/jobs", json={"config": document, "resources": {"cpus": 1}, **more}, headers=headers
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.ask("GET", f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait_for(
        self, job_id: str, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 150.0, pause_s: float = 0.02
    ) -> dict[str, Any]:
        """Return the job as soon as it meets a condition, which may not last long."""
        deadline = time.monotonic() + timeout_s
        while not condition(job := self.job(job_id)):
            assert time.monotonic() < deadline, self.describe(job_id)
            time.sleep(pause_s)
        return job

    def wait(self, job_id: str, timeout_s: float = 150.0) -> dict[str, Any]:
        """Return the job once it has ended, which lasts: fewer requests leave the cores to the job."""
        return self.wait_for(job_id, lambda job: job["status"] in TERMINAL, timeout_s, pause_s=0.25)

    def results(self, job_id: str) -> dict[str, Any]:
        answer = self.ask("GET", f"/v1/jobs/{job_id}/results")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def statuses(self, job_id: str) -> list[str]:
        """Return all states of the job in order."""
        events, after = [], 0
        while True:
            page = self.ask("GET", f"/v1/jobs/{job_id}/events", params={"after": after}).json()
            events += page["events"]
            after = page["next_after"]
            if page["is_over"] or not page["events"]:
                return [event["data"]["to"] for event in events if event["kind"] == "status"]

    def processes(self, job_id: str) -> list[psutil.Process]:
        """Return the living processes of a job's attempts, including their shims."""
        alive = []
        for process in psutil.process_iter():
            try:
                marked = job_id in process.environ().get("PYRAMIDION_ATTEMPT_DIR", "")
                if (marked or job_id in " ".join(process.cmdline())) and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
            except psutil.Error:
                continue
        return alive

    def describe(self, job_id: str) -> str:
        """Return the job and the logs, for the message of a failed test."""
        logs = sorted((self.root / "jobs" / job_id / "attempts").glob("*/log.txt"))
        texts = [f"{path}:\n{path.read_text()[-2000:]}" for path in logs]
        return "\n".join([str(self.job(job_id)), *texts, self.log.read_text()[-4000:]])


@pytest.fixture(scope="module")
def start_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """Starts services, each with its own folder, for a data root, a number of slots, and a database."""
    running: list[Service] = []

    def start(data_root: Path, cpus: int, database_url: str = "", **more: Any) -> Service:
        running.append(Service(tmp_path_factory.mktemp("service") / "root", data_root, cpus, database_url, **more))
        running[-1].start()
        return running[-1]

    yield start
    for service in running:
        service.stop()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.reliability)])
def service(request: pytest.FixtureRequest, start_service: Callable[..., Service], demo_root: Path) -> Service:
    """A running service with two slots."""
    url = create_database(request.getfixturevalue("postgres_folder"), TEMPLATE) if request.param == "postgresql" else ""
    return start_service(demo_root.parent, 2, url)
