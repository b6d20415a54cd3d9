"""Checks of one service: its root, database, MLflow store, storage, keys, and its processes."""

import json
import os
import sqlite3
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from pipelines.base.errors import ConfigError
from pipelines.tracking.mlflow_store import find_store
from service.backup.unfinished import is_unfinished
from service.datasets.folder import ARCHIVES
from service.disk_space import DiskAlmostFull, require_free_space
from service.doctor.findings import CheckResult
from service.jobs.supervisor_lock import supervisor_pid
from service.server.health import get
from service.settings import Settings
from service.storage.base import ArchiveKey, ArchiveMissing, StorageError
from service.storage.opening import open_storage
from service.store.errors import SchemaUnknown, StoreUnavailable
from service.store.inspection import DatabaseState, inspect_database

MAX_SKEW_S = 60.0
HTTP_TIMEOUT_S = 5.0


def root(settings: Settings) -> Iterator[CheckResult]:
    """Check that the root can be written, and the disk has free space."""
    path = settings.root
    if not path.is_dir():
        parent = next(folder for folder in path.parents if folder.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield CheckResult("root", "ok", f"{path} does not exist yet; `pyramidion serve` creates it")
        else:
            yield CheckResult("root", "failed", f"{path} does not exist", f"create it, or let {parent} be written")
        return
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"x")
            file.flush()
            skew_s = os.fstat(file.fileno()).st_mtime - time.time()
    except OSError as error:
        remedy = "change its owner and mode, or choose another --root"
        yield CheckResult("root", "failed", f"{path} cannot be written ({error.strerror})", remedy)
        return
    if is_unfinished(path):
        remedy = "run the same `pyramidion restore` again"
        yield CheckResult("root", "failed", f"a restore into {path} has not finished", remedy)
    else:
        yield CheckResult("root", "ok", f"{path} is writable")
    try:
        yield CheckResult("disk space", "ok", f"{require_free_space(settings) >> 20} MiB are free")
    except DiskAlmostFull as error:
        yield CheckResult("disk space", "failed", str(error).partition(";")[0], "run `pyramidion gc`, or enlarge it")
    if abs(skew_s) > MAX_SKEW_S:
        remedy = "let both machines synchronize their clocks (NTP)"
        yield CheckResult("clock", "warning", f"the clock of the file server differs by {skew_s:.0f} s", remedy)


def database(settings: Settings) -> Iterator[CheckResult]:
    """Check the database, the clock, the keys and the lease of the supervisor."""
    try:
        state = inspect_database(settings.url_of_database)
    except StoreUnavailable as error:
        yield CheckResult("database", "failed", str(error), "start the database, or correct PYRAMIDION_DATABASE_URL")
        return
    except (SchemaUnknown, ValueError) as error:
        yield CheckResult("database", "failed", str(error), "correct PYRAMIDION_DATABASE_URL, or install this version")
        return
    if state.schema is None:
        yield CheckResult("database", "ok", "is empty; `pyramidion serve` creates its tables")
    elif not state.is_current:
        yield CheckResult("database", "ok", f"has the schema {state.schema}, which `pyramidion serve` migrates")
    else:
        yield CheckResult("database", "ok", f"answers; schema {state.schema}")
        yield from _clock(state)
    yield from _keys(settings, state)
    yield from _lease(settings, state)
    yield from _attempts(settings, state)


def _clock(state: DatabaseState) -> Iterator[CheckResult]:
    ahead_s = (state.newest_event_at or 0.0) - time.time()
    if ahead_s > MAX_SKEW_S:
        remedy = "set the clock, and let all machines synchronize it (NTP)"
        detail = f"the newest event is {ahead_s:.0f} s in the future, so the clock was set back"
        yield CheckResult("clock", "failed", detail, remedy)
    else:
        yield CheckResult("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S %Z"))


def _keys(settings: Settings, state: DatabaseState) -> Iterator[CheckResult]:
    detail = f"{state.num_usable_keys} usable keys, address {settings.host}"
    if not settings.is_local and not state.num_usable_keys:
        remedy = "create a key with `pyramidion keys create`, or use --host 127.0.0.1"
        yield CheckResult("keys", "failed", detail, remedy)
    elif settings.require_keys and not state.num_usable_keys:
        remedy = "create a key with `pyramidion keys create`: nobody can use the service without one"
        yield CheckResult("keys", "warning", detail, remedy)
    else:
        yield CheckResult("keys", "ok", detail)


def _lease(settings: Settings, state: DatabaseState) -> Iterator[CheckResult]:
    pid = supervisor_pid(settings.root)
    if state.lease_age_s is None:
        detail = "no supervisor holds the lease" + (f"; process {pid} runs" if pid else "")
        yield CheckResult("supervisor", "warning", detail, "start `pyramidion serve`, or see the log of the supervisor")
    elif state.lease_age_s > 2 * settings.lease_s:
        detail = f"the supervisor on {state.lease_host} has not renewed its lease for {state.lease_age_s:.0f} s"
        yield CheckResult("supervisor", "warning", detail, "start `pyramidion serve`; it takes the lease over")
    else:
        yield CheckResult("supervisor", "ok", f"holds the lease on {state.lease_host}")


def _attempts(settings: Settings, state: DatabaseState) -> Iterator[CheckResult]:
    """Check that a supervisor with these settings could take over the attempts of active jobs."""
    if roots := sorted({root for _, root in state.places} - {str(settings.root)}):
        detail = f"attempts of active jobs write to the root {roots[0]}, and this root is {settings.root}"
        yield CheckResult("attempts", "failed", detail, "give all services of a database the same root")
    hosts = sorted({host for host, _ in state.places} - {settings.name_of_host})
    if hosts and settings.executor == "local":
        detail = f"attempts run on host {hosts[0]}; a supervisor on {settings.name_of_host} does not take them over"
        remedy = "keep a supervisor on that host; see PYRAMIDION_SUPERVISOR_HOST if it has another name now"
        yield CheckResult("attempts", "warning", detail, remedy)


def mlflow(settings: Settings) -> Iterator[CheckResult]:
    """Check that the MLflow store answers."""
    store = find_store(settings.root)
    remedy = "start the MLflow server, or correct MLFLOW_TRACKING_URI"
    if store.is_missing:
        yield CheckResult("mlflow", "ok", f"{store.label} does not exist yet; the first job creates it")
    elif store.tracking_uri.startswith(("http://", "https://")):
        try:
            with urllib.request.urlopen(f"{store.tracking_uri.rstrip('/')}/health", timeout=HTTP_TIMEOUT_S):
                yield CheckResult("mlflow", "ok", f"{store.label} answers")
        except (OSError, ValueError) as error:
            yield CheckResult("mlflow", "failed", f"{store.label} does not answer ({error})", remedy)
    elif store.tracking_uri.startswith("sqlite:///"):
        path = Path(unquote(store.tracking_uri.removeprefix("sqlite:///")))
        try:
            with closing(sqlite3.connect(path, timeout=HTTP_TIMEOUT_S)) as connection:
                connection.execute("SELECT count(*) FROM experiments").fetchone()
            yield CheckResult("mlflow", "ok", f"{path} can be read")
        except sqlite3.Error as error:
            yield CheckResult("mlflow", "failed", f"{path} cannot be read ({error})", "restore a backup of this file")
    else:
        yield CheckResult("mlflow", "warning", f"{store.label} was not checked", "use an http or sqlite address")


def storage(settings: Settings) -> Iterator[CheckResult]:
    """Check that the storage of uploaded archives answers."""
    place = settings.storage_url or settings.datasets_dir / ARCHIVES
    try:
        archives = open_storage(settings.storage_url, settings.datasets_dir / ARCHIVES, settings.storage_timeout_s)
        for _ in archives.read(ArchiveKey("0" * 64, "doctor")):
            break
        yield CheckResult("storage", "ok", f"{place} answers")
    except ArchiveMissing:
        yield CheckResult("storage", "ok", f"{place} answers")
    except (StorageError, ConfigError) as error:
        remedy = "correct PYRAMIDION_STORAGE_URL, AWS_ENDPOINT_URL and the credentials, or start the storage"
        yield CheckResult("storage", "failed", str(error), remedy)


def processes(settings: Settings) -> Iterator[CheckResult]:
    """Check whether the service runs and is ready."""
    status, answer = get(settings, "/readyz")
    if status == 200:
        yield CheckResult("service", "ok", f"{settings.url_of_api} is ready")
    elif status == 0:
        remedy = "start `pyramidion serve`, or name its --port"
        yield CheckResult("service", "warning", f"{settings.url_of_api} does not answer", remedy)
    else:
        try:
            failed = [check for check in json.loads(answer)["checks"] if not check["is_ok"]]
            detail = "; ".join(f"{check['name']}: {check['detail']}" for check in failed)
        except (ValueError, KeyError, TypeError):
            detail = f"answers with {status}"
        yield CheckResult("service", "failed", detail, "correct this, and see the log of `pyramidion serve`")
