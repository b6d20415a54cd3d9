"""Checks of the servers that a service uses: MLflow, the storage of archives, a predictor by itself, and a cluster."""

import base64
import io
import json
import os
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pipelines.base.errors import ConfigError
from pipelines.tracking.mlflow_store import Store, find_store, sqlite_path
from service.datasets.folder import ARCHIVES
from service.doctor.findings import CheckResult
from service.executors.base import ExecutorUnavailable, RequirementsNotMet
from service.executors.registry import create_executor
from service.predictor_address import access_problem, health_problem
from service.resources import CPUS, GPUS
from service.settings import Settings
from service.storage.base import StorageError
from service.storage.opening import open_run_storage, open_storage

HTTP_TIMEOUT_S = 5.0
_REST_PATH = "/api/2.0/mlflow/experiments/search"


def cluster(settings: Settings) -> Iterator[CheckResult]:
    """Check that the cluster of an executor answers; nothing is checked if attempts run on this host."""
    try:
        executor = create_executor(settings)
    except (ConfigError, RequirementsNotMet):  # a result of the settings
        return
    if getattr(executor, "is_bound_to_host", True):
        return
    try:
        capacity = executor.capacity()
        found = f"{settings.executor}: {capacity[CPUS]} cores, {capacity.get(GPUS, 0)} GPUs"
        yield CheckResult("cluster", "ok", found)
    except ExecutorUnavailable as error:
        remedy = f"start the cluster, or correct the settings of the executor {settings.executor}"
        yield CheckResult("cluster", "failed", str(error), remedy)


def mlflow(settings: Settings) -> Iterator[CheckResult]:
    """Check that the MLflow store answers."""
    store = find_store(settings.root)
    path = sqlite_path(store.tracking_uri)
    if store.is_missing:
        yield CheckResult("mlflow", "ok", f"{store.label} does not exist yet; the first job creates it")
    elif path is not None:
        yield _sqlite_store(path)
    elif store.tracking_uri.startswith(("http://", "https://")):
        yield _mlflow_server(store)
    elif "://" not in store.tracking_uri:
        remedy = "write the address of the server as http://HOST:PORT in MLFLOW_TRACKING_URI"
        yield CheckResult("mlflow", "failed", f"{store.label} is not a URL", remedy)
    else:
        remedy = "make sure that MLflow can use it; doctor knows only http, https and sqlite addresses"
        yield CheckResult("mlflow", "warning", f"{store.label} was not checked", remedy)


def _sqlite_store(path: Path) -> CheckResult:
    try:
        with closing(sqlite3.connect(path, timeout=HTTP_TIMEOUT_S)) as connection:
            connection.execute("SELECT count(*) FROM experiments").fetchone()
    except sqlite3.Error as error:
        return CheckResult("mlflow", "failed", f"{path} cannot be read ({error})", "restore a backup of this file")
    return CheckResult("mlflow", "ok", f"{path} can be read")


def _mlflow_server(store: Store) -> CheckResult:
    """Send a request to the REST interface: `/health` answers without the database, and to names that are refused."""
    start = "start the MLflow server, see its log, or correct MLFLOW_TRACKING_URI"
    request = urllib.request.Request(
        store.tracking_uri.rstrip("/") + _REST_PATH, b'{"max_results": 1}', _mlflow_headers()
    )
    try:
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as response:
            json.loads(response.read())
    except urllib.error.HTTPError as error:
        body = error.read(200).decode(errors="replace").strip().partition("\n")[0]
        detail = f"{store.label} answers {error.code}: {body or error.reason}"
        if error.code in (401, 403):
            start = (
                "correct MLFLOW_TRACKING_URI, add this name to --allowed-hosts of the MLflow server, or set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return CheckResult("mlflow", "failed", detail, start)
    except urllib.error.URLError as error:
        return CheckResult("mlflow", "failed", f"{store.label} does not answer ({error.reason})", start)
    except OSError as error:
        return CheckResult("mlflow", "failed", f"{store.label} does not answer ({error})", start)
    except ValueError:
        remedy = "correct MLFLOW_TRACKING_URI"
        return CheckResult("mlflow", "failed", f"{store.label} answers, but it is not an MLflow server", remedy)
    return CheckResult("mlflow", "ok", f"{store.label} answers")


def _mlflow_headers() -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    elif token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    return headers


def storage(settings: Settings) -> Iterator[CheckResult]:
    """Check that archives can be stored and read."""
    try:
        archives = open_storage(settings.storage_url, settings.datasets_dir / ARCHIVES, settings.storage_timeout_s)
        archives.check()
    except (StorageError, ConfigError) as error:
        problem, _, remedy = str(error).partition("; ")
        where = "PYRAMIDION_STORAGE_URL, AWS_ENDPOINT_URL and the credentials" if settings.storage_url else "--root"
        yield CheckResult("storage", "failed", problem, remedy or f"start the storage, or correct {where}")
    else:
        yield CheckResult("storage", "ok", f"{archives.label} can be written and read")


def run_storage(settings: Settings) -> Iterator[CheckResult]:
    """Check that objects of run folders can be stored, found and deleted, if they are needed."""
    if settings.run_storage is None:
        return
    key = "check-of-doctor"
    try:
        store = open_run_storage(settings.run_storage, settings.storage_timeout_s)
        store.put(key, io.BytesIO(b"stored for a moment"))
        found = list(store.keys(key))
        store.delete(found)
    except (StorageError, ConfigError) as error:
        problem, _, remedy = str(error).partition("; ")
        where = "PYRAMIDION_RUN_STORAGE, AWS_ENDPOINT_URL and the credentials"
        yield CheckResult("run storage", "failed", problem, remedy or f"start the storage, or correct {where}")
    else:
        yield CheckResult("run storage", "ok", f"{store.label} can be written, listed and deleted")


def predictor(settings: Settings) -> Iterator[CheckResult]:
    """Check that a predictor that runs by itself answers, and has the secret of these settings."""
    address, secret = settings.address_of_predictor, settings.secret_of_predictor
    if address is None:
        return
    timeout_s = settings.predictor_check_timeout_s
    if (problem := health_problem(address, timeout_s)) is not None:
        remedy = "start `pyramidion serve predictor`, or correct PYRAMIDION_PREDICTOR_URL"
        yield CheckResult("predictor", "warning", problem, remedy)
    elif address.path is None and secret is None:
        detail = f"{address} answers, but no secret for it is set here"
        remedy = "set PYRAMIDION_PREDICTOR_SECRET_FILE for the API and the predictor; other processes need none"
        yield CheckResult("predictor", "warning", detail, remedy)
    elif (problem := access_problem(address, secret, timeout_s)) is not None:
        remedy = "give PYRAMIDION_PREDICTOR_SECRET (or _FILE) the same value for the API and the predictor"
        yield CheckResult("predictor", "failed", problem, remedy)
    else:
        yield CheckResult("predictor", "ok", f"{address} answers")
