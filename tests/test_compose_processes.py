"""The commands, environments and health checks of `docker-compose.yml`, run as processes on the loopback interface.

Paths of containers become folders, names of services and ports become addresses of this machine, and PostgreSQL is the
server of the tests, with the script that creates MLflow's database. Everything else is as in the file.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from service.client.client import Client
from service.client.errors import ServiceError
from tests.compose import ROOT, compose, environment_of, in_order_of_start, services
from tests.postgres import PostgresServer
from tests.service.waiting import wait_until
from tests.unused_ports import unused_ports

PORT = re.compile(r"(?<![\w.])(?P<host>postgres|s3|mlflow|predictor|127[.]0[.]0[.]1|0[.]0[.]0[.]0):(?P<port>\d{4})\b")
NUMBER = re.compile(r"(?<=[=\s])(?P<port>5432|9333|8080|8888|8333|5000|8000)(?!\w)|^(?P<only>8000)$")
BUCKETS = "import boto3; print(*sorted(one['Name'] for one in boto3.client('s3').list_buckets()['Buckets']))"
STARTED_S = 300.0


class Deployment:
    """The services of the file as processes."""

    def __init__(self, folder: Path, data_root: Path, postgres_port: str) -> None:
        self.folder = folder
        own = ["9333", "8080", "8888", "8333", "5000", "8000", "8001"]
        self.ports = dict(zip(own, map(str, unused_ports(len(own))), strict=True)) | {"5432": postgres_port}
        self.secrets = folder / "secrets"
        command = ["make", "--no-print-directory", "secrets", f"SECRETS={self.secrets}"]
        subprocess.run(command, cwd=ROOT, check=True, timeout=60)
        for path in self.secrets.iterdir():
            text = self.here(path.read_text(), {})
            path.unlink()
            path.write_text(text)
        self._data_root = data_root
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def here(self, text: str, mounts: Mapping[str, Path]) -> str:
        """Return a text of the file with the addresses and folders of this machine."""
        text = PORT.sub(lambda found: f"127.0.0.1:{self.ports[found['port']]}", text)
        text = NUMBER.sub(lambda found: self.ports[found["port"] or found["only"]], text)
        text = text.replace("0.0.0.0", "127.0.0.1").replace("/run/secrets/", f"{self.secrets}/")
        for inside, outside in mounts.items():
            text = re.sub(rf"(?<![\w/]){re.escape(inside)}(?=/|$|\s)", str(outside), text)
        return text

    def mounts_of(self, name: str) -> dict[str, Path]:
        """Return the folder for each mount of a service."""
        mounts = {}
        for mount in services()[name].get("volumes", []):
            folder = self._data_root if mount["target"] == "/data" else self.folder / Path(mount["source"]).name
            folder.mkdir(exist_ok=True)
            mounts[mount["target"]] = folder
        return mounts

    def environment_of(self, name: str) -> dict[str, str]:
        """Return the environment of a service, with nothing from that of the tests but what Python needs."""
        home = self.folder / f"home-{name}"
        home.mkdir(exist_ok=True)
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        base = {"PATH": programs, "HOME": str(home), "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
        mounts = self.mounts_of(name)
        return base | {key: self.here(value, mounts) for key, value in environment_of(services()[name]).items()}

    def start(self, name: str) -> None:
        """Start a service, and return once its health check succeeds."""
        mounts = self.mounts_of(name)
        command = [self.here(word, mounts) for word in services()[name]["command"]]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.environment_of(name), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        self.wait_until_healthy(name)

    def wait_until_healthy(self, name: str) -> None:
        deadline = time.monotonic() + STARTED_S
        while (done := self.health_of(name)).returncode != 0:
            log = (self.folder / f"{name}.log").read_text()[-3000:]
            if name in self.processes:
                assert self.processes[name].poll() is None, log
            assert time.monotonic() < deadline, f"{name}: {done.stdout}{done.stderr}\n{log}"
            time.sleep(0.5)

    def health_of(self, name: str) -> "subprocess.CompletedProcess[str]":
        """Run the health check of a service once."""
        kind, *command = services()[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.run(name, *command)

    def run(self, name: str, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command like `docker compose exec NAME COMMAND`."""
        words = [self.here(word, self.mounts_of(name)) for word in command]
        return subprocess.run(words, env=self.environment_of(name), capture_output=True, text=True, timeout=120)

    def stop(self, name: str) -> int:
        """Stop a service as Docker does: SIGTERM, then SIGKILL for whatever remains."""
        process = self.processes.pop(name)
        family = [process.pid]
        with contextlib.suppress(psutil.Error):  # it has ended already
            family += [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(float(services()[name]["stop_grace_period"].replace("1m", "60").rstrip("s")))
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return process.wait()


@pytest.fixture
def postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PostgresServer, str]]:
    """PostgreSQL on a port of the loopback interface."""
    port = str(unused_ports(1)[0])
    monkeypatch.setenv("PGPORT", port)
    server = PostgresServer({"listen_addresses": "127.0.0.1", "port": port})
    yield server, port
    server.close()


def create_databases(deployment: Deployment, server: PostgresServer) -> None:
    """Do what the image of PostgreSQL does at the first start: the role, the database, and the script of the file."""
    service = services()["postgres"]
    environment = {
        **deployment.environment_of("postgres"), "PGHOST": str(server.folder), "PGPORT": deployment.ports["5432"],
        "PGUSER": "postgres",
    }  # fmt: skip
    user, database = environment["POSTGRES_USER"], environment["POSTGRES_DB"]
    script = compose()["configs"][service["configs"][0]["source"]]["content"]
    psql = ["psql", "--set=ON_ERROR_STOP=1", "--dbname=postgres"]
    for statement in (f"CREATE ROLE {user} SUPERUSER LOGIN", f"CREATE DATABASE {database} OWNER {user}"):
        subprocess.run([*psql, f"--command={statement}"], env=environment, check=True, timeout=60)
    subprocess.run(["sh", "-euc", deployment.here(script, {})], env=environment, check=True, timeout=60)


@pytest.fixture
def deployment(tmp_path: Path, demo_root: Path, postgres: tuple[PostgresServer, str]) -> Iterator[Deployment]:
    """All services, started in the order of the file and stopped in the reverse order."""
    server, port = postgres
    deployment = Deployment(tmp_path, demo_root.parent, port)
    try:
        create_databases(deployment, server)
        for name in in_order_of_start():
            if name == "postgres":
                deployment.wait_until_healthy(name)
            else:
                deployment.start(name)
        yield deployment
    finally:
        for name in list(reversed(deployment.processes)):
            deployment.stop(name)


@pytest.mark.integration
def test_job_runs_through_the_services_with_a_key(deployment: Deployment, small_document: dict[str, Any]) -> None:
    url = f"http://127.0.0.1:{deployment.ports['8000']}"
    with pytest.raises(ServiceError, match="key"), Client(url) as anonymous:
        anonymous.jobs()
    made = deployment.run("api", "pyramidion", "keys", "create", "user", "--scope", "admin")
    assert made.returncode == 0, made.stderr

    small_document["tracking"] = {"experiment": "compose", "register_as": "shapes"}
    (deployment.folder / "job.json").write_text(json.dumps(small_document))
    image = deployment.folder / "image.jpg"
    Image.new("RGB", (64, 64), "red").save(image)
    client = {"PYRAMIDION_URL": url, "PYRAMIDION_API_KEY": made.stdout.strip()}

    def pyramidion(*words: str) -> str:
        environment = {**deployment.environment_of("api"), **client}
        command = [sys.executable, "-m", "service.cli", *words]
        done = subprocess.run(
            command, env=environment, cwd=deployment.folder, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr + (deployment.folder / "supervisor.log").read_text()[-3000:]
        return done.stdout

    pyramidion("submit", "job.json", "--cpus", "1", "--wait")
    [job] = json.loads(pyramidion("jobs", "--json"))
    assert (job["status"], job["attempt"]) == ("succeeded", 1)
    [answer] = json.loads(pyramidion("predict", "--model", "shapes@champion", str(image)))
    assert set(answer["tasks"]) == {"shapes", "scene", "identity"}

    assert [name for name in in_order_of_start() if deployment.health_of(name).returncode != 0] == []
    buckets = deployment.run("api", "python", "-c", BUCKETS)
    assert buckets.stdout.split() == ["mlflow", "pyramidion"], buckets.stderr
    stored = sum(path.stat().st_size for path in (deployment.folder / "s3").glob("mlflow_*.dat"))
    assert stored > 100_000, "MLflow passes the files of the model on to S3"
    run = deployment.folder / "service/jobs" / job["id"]
    texts = [path.read_bytes() for path in run.rglob("*") if path.is_file()]
    for secret in deployment.secrets.iterdir():
        value = secret.read_text().split()[-1].encode()
        assert [text for text in texts if value in text] == [], f"{secret.name} is in the run folder"

    ends = {name: deployment.stop(name) for name in reversed(in_order_of_start()) if name != "postgres"}
    assert {name: ends[name] for name in ("api", "supervisor", "predictor")} == {
        "api": 0, "supervisor": 0, "predictor": 0
    }  # fmt: skip
    assert wait_until(lambda: not _remaining(deployment.folder), "all processes end")


def _remaining(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and str(folder) in process.environ().get("HOME", ""):
                found.append(process.pid)
    return found
