"""The doctor names the fault of a broken installation, what would be right, and where to change it."""

import errno
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from pipelines.base.errors import ConfigError
from service.doctor import database, installation, servers
from service.doctor.findings import CheckResult
from service.keys.use_cases import Keys
from service.principal import LOCAL_USER
from service.scopes import Scope
from service.settings import Settings
from service.storage.opening import open_run_storage
from service.store.api_keys import KeyStore
from service.store.database import open_database
from service.store.supervisor_lease import LeaseStore

Reply = tuple[int, str]
NO_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="every file may be read and written by root")
LISTED = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name></ListBucketResult>'
DENIED = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"


@pytest.fixture
def settings(tmp_path: Path, no_mlflow_settings: None) -> Settings:
    (tmp_path / "root").mkdir()
    return Settings(root=tmp_path / "root", min_free_bytes=1, port=1, lease_s=0.5)


def found(results: Iterator[CheckResult], name: str) -> tuple[str, str]:
    """Return the outcome of a check, and everything that it says."""
    (result,) = (one for one in results if one.name == name)
    return result.outcome, f"{result.detail} -> {result.remedy}"


@contextmanager
def server(reply: Callable[[str, str, dict[str, str]], Reply]) -> Iterator[str]:
    """Run a server that answers by method, path and headers; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = reply(self.command, self.path, dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - names of http.server

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            "9999",
            "has schema '9999', but this version of pyramidion knows only schemas up to .* -> install the version",
        ),
        ("dc11669786a5", "belongs to another application, .* -> name a database of its own in PYRAMIDION_DATABASE_URL"),
    ],
)
def test_database_of_a_newer_version_or_of_another_application(settings: Settings, schema: str, message: str) -> None:
    engine = open_database(settings.url_of_database)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :schema"), {"schema": schema})
    engine.dispose()
    outcome, said = found(database.database(settings), "database")
    assert outcome == "failed"
    assert_matches(said, message)


def test_account_that_may_not_create_tables(settings: Settings, postgres_url: str) -> None:
    user = f"weak_{os.getpid()}"
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        connection.execute(f"CREATE ROLE {user} LOGIN".encode())
        connection.execute(f"GRANT USAGE ON SCHEMA public TO {user}".encode())
        weak = settings.model_copy(update={"database_url": postgres_url.replace("postgres@", f"{user}@")})
        outcome, said = found(database.database(weak), "database")
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute(f"DROP ROLE {user}".encode())
    assert outcome == "failed"
    assert_matches(said, f"'{user}' may not create tables -> run GRANT CREATE ON SCHEMA public TO {user}")


def test_clock_that_differs_from_the_one_of_the_database(
    settings: Settings, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = settings.model_copy(update={"database_url": postgres_url})
    assert found(database.database(remote), "clock")[0] == "ok"
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 7200)
    outcome, said = found(database.database(remote), "clock")
    assert outcome == "failed"
    assert_matches(said, r"the clock of the database's server differs from the one here by -7\d\d\d s -> set the clock")


def test_keys_that_are_all_revoked_lock_everyone_out(settings: Settings) -> None:
    engine = open_database(settings.url_of_database)
    keys = Keys(KeyStore(engine))
    key, _ = keys.create(LOCAL_USER, "ci", frozenset([Scope.JOBS_READ]))
    assert found(database.database(settings), "keys")[0] == "ok"
    keys.revoke(LOCAL_USER, key.id)
    engine.dispose()
    outcome, said = found(database.database(settings), "keys")
    assert outcome == "failed"
    assert_matches(said, "all 1 keys have expired or are revoked, .* rejects every request -> create a key with")
    assert found(database.database(settings.model_copy(update={"require_keys": False})), "keys")[0] == "ok"


def test_supervisor_that_sends_no_heartbeat(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_database(settings.url_of_database)
    assert LeaseStore(engine, "me", "far away").take(None, None)
    engine.dispose()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 7200)
    outcome, said = found(database.database(settings), "supervisor")
    assert outcome == "warning"
    assert_matches(said, r"on host far away\) has sent no heartbeat for 0.5 s -> start `pyramidion serve`")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((403, "Invalid Host header"), "answers 403: Invalid Host header -> .*--allowed-hosts of the MLflow server"),
        ((200, "<html>"), "it is not an MLflow server -> correct MLFLOW_TRACKING_URI"),
        ((500, "no database"), "answers 500: no database -> start the MLflow server, see its log, or correct MLFLOW_"),
    ],
)
def test_server_that_is_not_a_usable_mlflow(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, reply: Reply, message: str
) -> None:
    with server(lambda *_: reply) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        outcome, said = found(servers.mlflow(settings), "mlflow")
    assert outcome == "failed"
    assert_matches(said, message)


def test_silent_mlflow_and_an_address_without_a_scheme(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "HTTP_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert_matches(found(servers.mlflow(settings), "mlflow")[1], "does not answer .* -> start the MLflow server")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlflow:5000")
    outcome, said = found(servers.mlflow(settings), "mlflow")
    assert outcome == "failed"
    assert_matches(said, "mlflow:5000 is not a URL -> write the address of the server as http://HOST:PORT in MLFLOW_")


def test_bucket_that_may_only_be_read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with server(lambda method, *_: (200, LISTED) if method == "GET" else (403, DENIED)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        outcome, said = found(servers.storage(settings.model_copy(update={"storage_url": "s3://b/some"})), "storage")
    assert outcome == "failed"
    assert_matches(
        said, "do not permit CreateMultipartUpload in s3://b/some .* -> permit it, or correct AWS_ACCESS_KEY"
    )


def test_usable_storage_of_runs_keeps_nothing_of_the_check(settings: Settings, s3_url: str) -> None:
    with_storage = settings.model_copy(update={"run_storage": s3_url})
    assert found(servers.run_storage(with_storage), "run storage")[0] == "ok"
    assert list(open_run_storage(s3_url, 20).keys("")) == []


def test_predictor_with_another_secret(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(_: str, path: str, headers: dict[str, str]) -> Reply:
        is_admitted = path == "/healthz" or headers.get("Authorization") == "Bearer right"
        return (200 if path == "/healthz" else 404, "") if is_admitted else (401, "")

    with server(reply) as url:
        monkeypatch.setenv("PYRAMIDION_PREDICTOR_URL", url)
        said = []
        for secret in ("right", "wrong", ""):
            monkeypatch.setenv("PYRAMIDION_PREDICTOR_SECRET", secret)
            said.append(found(servers.predictor(Settings(root=settings.root)), "predictor"))
    assert [outcome for outcome, _ in said] == ["ok", "failed", "warning"]
    assert_matches(said[1][1], "has another secret -> give PYRAMIDION_PREDICTOR_SECRET .* the same value")


def test_full_disk_of_the_root(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    outcome, said = found(installation.root(settings), "root")
    assert outcome == "failed"
    assert_matches(said, "the disk of .* is full .* -> delete jobs or data sets, run `pyramidion gc`")


@NO_ROOT
def test_files_of_another_user_in_the_root(settings: Settings) -> None:
    (settings.root / "service.db").touch(mode=0o400)
    outcome, said = found(installation.root(settings), "root")
    assert outcome == "failed"
    assert_matches(said, r"service\.db cannot be written by the user .* -> run `chown -R ")


@NO_ROOT
def test_secret_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").touch(mode=0)
    monkeypatch.setenv("PYRAMIDION_DATABASE_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(
        ConfigError, match=r"PYRAMIDION_DATABASE_URL_FILE: .* may not be read by the user id \d+; change"
    ):
        Settings()


def test_port_of_another_program(settings: Settings) -> None:
    with server(lambda *_: (404, "")) as url:
        outcome, said = found(
            installation.processes(settings.model_copy(update={"port": int(url.rpartition(":")[2])})), "service"
        )
    assert outcome == "failed"
    assert_matches(said, "answers 404, so another program listens there -> name the port of the service with --port")


def assert_matches(said: str, pattern: str) -> None:
    assert re.search(pattern, said), said
