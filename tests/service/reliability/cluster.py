"""Several supervisors and APIs on one database, with shell scripts as trainers."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2

from service.child_process import child_environment, python_command
from service.executors.local import LocalExecutor
from service.settings import Settings
from service.states import JobStatus
from service.store.database import open_database
from service.store.engines import DatabaseLimits
from service.store.errors import StoreUnavailable
from service.store.jobs import JobStore
from service.store.records import Job, NewJob

DEADLINE_S = 240.0
SHELL_SUPERVISOR = "tests.service.reliability.shell_supervisor"

SCRIPT = """
cd ../..
mkdir running 2>/dev/null || touch twice
echo start >> starts
mkdir -p ../../slots && mkdir ../../slots/$$
[ "$(ls ../../slots | wc -l)" -le 2 ] || touch ../../overbooked
sleep {seconds}
rmdir ../../slots/$$ running
echo '{{}}' > result.json
"""
"""Leaves `twice` if two attempts of one job run at once, and `overbooked` if more than two attempts run at once."""


class Cluster:
    """Processes on one root and one database; jobs may use two cores together."""

    def __init__(self, folder: Path, url: str, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "root": folder / "root", "data_roots": (folder,), "cpus": 2, "gpus": 0, "poll_s": 0.05, "lease_s": 3.0,
            "retry_delay_s": 0.1, "cancel_grace_s": 2.0,
        }  # fmt: skip
        self.settings = Settings(database_url=url, **defaults | settings)
        self.settings.jobs_dir.mkdir(parents=True, exist_ok=True)
        self.engine = open_database(url)
        self.store = JobStore(self.engine)
        self._log = folder / "log"
        self._started: list[subprocess.Popen[bytes]] = []

    def start_supervisor(self, module: str = SHELL_SUPERVISOR) -> subprocess.Popen[bytes]:
        return self._start(sys.executable, "-m", module)

    def start_collection(self) -> subprocess.Popen[bytes]:
        """Start what `pyramidion gc` does."""
        return self._start(*python_command("service.retention.process"))

    def start_api(self) -> tuple[subprocess.Popen[bytes], httpx2.Client]:
        """Start an API, and return it with a client once it answers."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            number = listener.fileno()
            process = self._start(*python_command("service.api.process", "--fd", str(number)), pass_fds=[number])
            client = httpx2.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=60)
        self.until(lambda: client.get("/livez").status_code == 200)
        return process, client

    def _start(self, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        environment = {
            name: text for name, text in os.environ.items() if not name.startswith(("PYRAMIDION_", "MLFLOW"))
        }
        environment = child_environment({**environment, **self.settings.environment()})
        with self._log.open("ab") as log:
            self._started.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, **options)
            )
        return self._started[-1]

    def submit(self, script: str = SCRIPT.format(seconds=0.02), key: str | None = None, **more: Any) -> Job:
        new = NewJob(**{"name": "j", "priority": 0, "cpus": 1, "gpus": 0, **more}, config=document(script))
        return self.store.submit(new, key, None if key is None else "body")[0]

    def active_supervisor(self) -> int | None:
        """Return the pid of the supervisor that has the lease."""
        lease = self.store.supervisor_lease()
        return None if lease is None or lease.owner is None else lease.pid

    def is_blocked(self) -> bool:
        """Return True if a process holds the write lock of an SQLite database for longer than any transaction takes."""
        if self.engine.dialect.name != "sqlite":
            return False
        engine = open_database(self.settings.url_of_database, DatabaseLimits(lock_s=5.0))
        try:
            JobStore(engine).check_writable()
        except StoreUnavailable:
            return True
        finally:
            engine.dispose()
        return False

    def until(self, condition: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
        """Return the first true result of a condition; the database or an API may be unavailable in the meantime."""
        deadline = time.monotonic() + timeout_s
        while True:
            with suppress(StoreUnavailable, httpx2.TransportError):
                if answer := condition():
                    return answer
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def ended(self, jobs: list[Job]) -> list[Job]:
        """Return the jobs once all of them have ended."""

        def found() -> list[Job]:
            now = [self.store.get(job.id) for job in jobs]
            return now if all(job.status.is_terminal for job in now) else []

        return list(self.until(found))

    def check_each_ran_alone(self, jobs: list[Job]) -> None:
        """Check that all jobs have succeeded in one attempt, never twice at once, and never more than two of them."""
        ended = self.ended(jobs)
        assert {job.status for job in ended} == {JobStatus.SUCCEEDED}, self.log()
        assert {job.attempt for job in ended} == {1}, self.log()
        for job in ended:
            files = {path.name: path for path in self.settings.run_dir(job.id).iterdir()}
            assert "twice" not in files
            assert files["starts"].read_text().split() == ["start"]
            changes = [event.data["to"] for event in self.store.events(job.id, after=0) if event.kind == "status"]
            assert [change for change in changes if change in ("starting", "succeeded")] == ["starting", "succeeded"]
        assert not (self.settings.root / "overbooked").exists()

    def log(self) -> str:
        return self._log.read_text()[-6000:]

    def close(self) -> None:
        for process in self._started:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        LocalExecutor(1, 0).sweep_orphans((), self.settings.root)
        self.engine.dispose()


def document(script: str) -> dict[str, Any]:
    """Return a document that only `shell_supervisor` runs."""
    return {"name": "j", "script": script, "tracking": None}
