"""Many processes open the database at the same time, and no commit is lost."""

import contextlib
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, insert, make_url, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from pipelines.tracking.mlflow_store import find_store
from service.child_process import child_environment
from service.settings import Settings
from service.states import JobStatus
from service.store.database import open_database, reading, writing
from service.store.errors import SchemaUnknown
from service.store.jobs import JobStore
from service.store.records import NewJob
from service.store.schema import newest_schema
from service.store.tables import attempts
from tests.service.waiting import wait_until

OPEN_ON_A_SIGNAL = """
import sys
from service.store.database import open_database
from service.store.jobs import JobStore
print("ready", flush=True)
sys.stdin.readline()
print(JobStore(open_database(sys.argv[1])).counts()["queued"])
"""

SUBMIT = """
import itertools, sys
from service.store.database import open_database
from service.store.jobs import JobStore
from service.store.records import NewJob
from service.store.schema import newest_schema
store = JobStore(open_database(sys.argv[1]))
for number in range(int(sys.argv[2])):
    print(store.submit(NewJob("demo", {"number": number}, 0, 1, 0))[0].id, flush=True)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )


def test_processes_that_start_together_create_one_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new folder' / '100%.db'}"
    processes = [start(OPEN_ON_A_SIGNAL, url) for _ in range(4)]
    assert [process.stdout.readline() for process in processes if process.stdout] == ["ready\n"] * 4
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in processes] == ["0\n"] * 4
    assert [process.returncode for process in processes] == [0] * 4


def test_process_waits_while_another_one_migrates(tmp_path: Path) -> None:
    path = tmp_path / "service.db"
    lock_path = tmp_path / "service.db.lock"
    with lock_path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = start(OPEN_ON_A_SIGNAL, f"sqlite:///{path}")
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
        wait_until(lambda: has_open(process.pid, lock_path), "the process to ask for the lock")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        assert sqlite3.connect(path).execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    assert process.communicate(timeout=60)[0] == "ready\n0\n"


def has_open(pid: int, path: Path) -> bool:
    """Return whether a process has a file open."""
    with contextlib.suppress(FileNotFoundError):
        return any(path.samefile(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists())
    return False


def test_threads_that_start_together_create_one_database(tmp_path: Path) -> None:
    url, together = f"sqlite:///{tmp_path / 'service.db'}", threading.Barrier(8)

    def count(_: int) -> int:
        together.wait()
        return sum(JobStore(open_database(url)).counts().values())

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(count, range(8))) == [0] * 8


def test_database_at_head_is_opened_without_alembic(url: str) -> None:
    script = "import sys; from service.store.database import open_database; open_database(sys.argv[1])"
    script += "; print({'alembic', 'torch', 'mlflow'} & set(sys.modules))"
    process = start(script, url)
    assert process.communicate(timeout=60)[0] == "set()\n"


def test_database_of_a_newer_version_is_rejected_and_not_changed(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaUnknown, match=f"'9999'.*'{newest_schema()}'.*newer"):
        open_database(url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all() == ["9999"]
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_database_that_processes_cannot_share_is_rejected(url: str) -> None:
    with pytest.raises(ValueError, match=r"PYRAMIDION_DATABASE_URL.*does not name a file"):
        open_database(url)


@pytest.mark.parametrize("url", ["here", "foo:///x", "postgresql+nobody://x"])
def test_invalid_url_is_reported_with_the_variable(url: str) -> None:
    with pytest.raises(ValueError, match=r"PYRAMIDION_DATABASE_URL: cannot be used"):
        open_database(url)


def test_file_that_is_not_a_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "service.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(ValueError, match=r"service\.db: file is not a database; move the file away"):
        open_database(f"sqlite:///{path}")
    assert path.read_bytes() == b"not a database" * 1000


def test_folder_of_the_database_may_have_any_name(tmp_path: Path) -> None:
    root = tmp_path / "a%20b 50%d?x=1#ü;&"
    settings = Settings(root=root)
    open_database(settings.url_of_database).dispose()
    assert (root / "service.db").is_file()
    assert make_url(find_store(root).tracking_uri).database == str(root / "mlflow.db")


def test_copy_in_another_journal_mode_is_opened_in_wal_mode(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode = DELETE").fetchone() == ("delete",)
    connection.close()
    with open_database(sqlite_url).connect() as opened:
        assert opened.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"


def test_every_connection_syncs_each_commit_and_enforces_foreign_keys(sqlite_url: str) -> None:
    engine = open_database(sqlite_url)
    with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 30_000
    attempt = {"job_id": "no such job", "number": 1, "lease_owner": "x", "gpu_ids": [], "started_at": 0.0}
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(insert(attempts).values(attempt))


def test_reading_does_not_wait_for_a_writer_and_sees_only_commits(
    engine: Engine, store: JobStore, new_job: Callable[..., NewJob]
) -> None:
    store.submit(new_job())
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE jobs SET priority = 7")
        assert [job.priority for job in store.page()] == [0]
    assert [job.priority for job in store.page()] == [7]


def test_transaction_reads_one_state_while_others_write(
    engine: Engine, store: JobStore, new_job: Callable[..., NewJob]
) -> None:
    with reading(engine) as connection:
        assert connection.execute(select(attempts)).all() == []
        store.submit(new_job())
        assert connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one() == 0


def test_error_in_a_transaction_rolls_it_back(engine: Engine, store: JobStore, new_job: Callable[..., NewJob]) -> None:
    job, _ = store.submit(new_job())
    with pytest.raises(DBAPIError, match=r"no such table|does not exist"), writing(engine) as connection:  # noqa: PT012
        connection.exec_driver_sql("UPDATE jobs SET priority = 7")
        connection.exec_driver_sql("UPDATE no_table SET priority = 7")
    assert store.get(job.id) == job


def test_twenty_threads_and_four_processes_write_concurrently_without_errors(
    url: str, store: JobStore, new_job: Callable[..., NewJob]
) -> None:
    processes = [start(SUBMIT, url, "50") for _ in range(4)]
    assert all(process.stdout and process.stdout.readline() for process in processes), "each has started to write"

    def write(thread: int) -> list[str]:
        written = [store.submit(new_job(priority=thread))[0].id for _ in range(5)]
        return [store.set_priority(job_id, thread + 1).id for job_id in written]

    with ThreadPoolExecutor(20) as pool:
        written = [job_id for ids in pool.map(write, range(20)) for job_id in ids]
    for process in processes:
        assert process.stdout
        written += process.stdout.read().split()
        assert process.wait(timeout=60) == 0
    assert len(set(written)) == 20 * 5 + 4 * 49, "one line of each process was read before"
    assert store.counts()[JobStatus.QUEUED] == 20 * 5 + 4 * 50


def test_commits_of_a_killed_writer_are_complete(url: str) -> None:
    for _ in range(3):
        process = start(SUBMIT, url, "1000000")
        assert process.stdout
        printed = [process.stdout.readline().strip() for _ in range(25)]
        os.kill(process.pid, signal.SIGKILL)
        printed += process.stdout.read().split()
        assert process.wait(timeout=60) == -signal.SIGKILL
        engine = open_database(url)
        store = JobStore(engine)
        assert [store.get(job_id).id for job_id in printed] == printed
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
            half = "SELECT count(*) FROM jobs WHERE id NOT IN (SELECT job_id FROM events WHERE kind = 'status')"
            assert connection.exec_driver_sql(half).scalar_one() == 0
        engine.dispose()


def test_copy_of_a_closed_database_file_is_complete(
    sqlite_url: str, new_job: Callable[..., NewJob], tmp_path: Path
) -> None:
    engine = open_database(sqlite_url)
    job, _ = JobStore(engine).submit(new_job())
    engine.dispose()
    copy = shutil.copy(sqlite_url.removeprefix("sqlite:///"), tmp_path / "copy.db")
    assert JobStore(open_database(f"sqlite:///{copy}")).get(job.id) == job
