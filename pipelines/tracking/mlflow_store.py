"""The MLflow store and its client. Torch-free; MLflow is imported by `connect`.

MLflow's address comes from `MLFLOW_TRACKING_URI`, never from the job document. The default is a SQLite file with an
artifact folder beside it, both with explicit paths, because MLflow's own defaults depend on the working directory.
"""

import getpass
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pipelines.base.errors import RegistryError
from pipelines.base.file_lock import file_lock
from pipelines.base.garbage_collection import no_garbage_collection
from pipelines.tracking.mlflow_names import cut

if TYPE_CHECKING:
    from mlflow import MlflowClient

CLIENT_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""MLflow settings for variables that the user has not set; MLflow's own seven retries of 120 s would delay a run."""

LOCK_TIMEOUT_S = 60.0
"""Time to wait for another process that migrates a store or moves an alias."""

_CREDENTIALS = re.compile(r"://[^/@\s]+@")


@dataclass(frozen=True)
class Store:
    """An MLflow tracking store; new experiments keep files at `artifact_location` (None: chosen by the server)."""

    tracking_uri: str
    artifact_location: str | None = None

    @property
    def label(self) -> str:
        """The address without credentials, for messages and files."""
        return without_credentials(self.tracking_uri)

    @property
    def is_missing(self) -> bool:
        """True if the store is a SQLite file that does not exist yet."""
        return (path := sqlite_path(self.tracking_uri)) is not None and not path.exists()

    def page_of_run(self, run_id: str) -> str | None:
        """Return the address of the page of a run, without credentials; None if the store is not an MLflow server."""
        return None if _is_database(self.tracking_uri) else f"{self.label.rstrip('/')}/#/runs/{run_id}"

    @contextmanager
    def locked(self, purpose: str) -> Iterator[None]:
        """Hold a lock of this store against the threads and processes of this host that want the same one.

        MLflow has no transactions for its clients: two of them would migrate a new store at once, or overwrite an alias
        that the other has just moved.

        Raises:
            RegistryError: another process has held it for long, or the lock cannot be created.
        """
        if (database := sqlite_path(self.tracking_uri)) is not None:
            path = database.with_name(f".{database.name}.{purpose}.lock")
        else:
            digest = hashlib.sha256(self.tracking_uri.encode()).hexdigest()[:16]
            path = Path(tempfile.gettempdir()) / f"pyramidion-{os.getuid()}-{digest}.{purpose}.lock"
        with ExitStack() as stack:
            try:
                stack.enter_context(file_lock(path, LOCK_TIMEOUT_S))
            except OSError as error:
                raise RegistryError(f"MLflow at {self.label}: cannot lock it ({error}); see what holds it") from error
            yield


def find_store(runs_root: Path) -> Store:
    """Return the store of `MLFLOW_TRACKING_URI`, by default `mlflow.db` and `mlartifacts` in `runs_root`."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return Store(uri)
    return store_in(runs_root.resolve())


def store_in(root: Path) -> Store:
    """Return the store in a folder, which has an absolute path."""
    url = sqlite_url(root / "mlflow.db")
    # MLflow 3.17 also creates the parent folders of a `sqlite:///` path, as it is written in the URL. Name the driver,
    # for which it does not, if that would be another folder. Remove when it decodes the path.
    if "%" in url:
        url = url.replace("sqlite:", "sqlite+pysqlite:", 1)
    return Store(url, (root / "mlartifacts").as_uri())


def sqlite_url(path: Path) -> str:
    """Return SQLAlchemy's URL of a file, with `%` and `?` of the path escaped."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def sqlite_path(url: str) -> Path | None:
    """Return the file of an SQLite URL, or None for other addresses."""
    found = re.match(r"sqlite(?:\+pysqlite)?:///", url)
    return Path(unquote(url[found.end() :])) if found else None


def _is_database(url: str) -> bool:
    return not url.startswith(("http://", "https://"))


def without_credentials(text: str) -> str:
    """Return `text` with user names and passwords removed from its URLs."""
    return _CREDENTIALS.sub("://", text)


def one_line(error: Exception) -> str:
    """Return an error as one line without credentials."""
    text = str(error)
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        *_, text = error.args[0][0]  # (source, target, reason) of the first file that was not copied
    lines = without_credentials(text).strip().splitlines()
    return cut(lines[0] if lines else type(error).__name__, 300)


def connect(store: Store) -> "MlflowClient":
    """Return a quiet client of `store`. Imports MLflow (3 s); a new SQLite store is created (2 s)."""
    for name, setting in CLIENT_DEFAULTS.items():
        os.environ.setdefault(name, setting)
    if (path := sqlite_path(store.tracking_uri)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    with no_garbage_collection():
        from mlflow import MlflowClient

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    # Each retry of a request would print a line; the caller reports an outage once.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    # The first client of a new database creates its tables, for which MLflow has no lock of its own.
    with store.locked("migration") if _is_database(store.tracking_uri) else nullcontext():
        return MlflowClient(store.tracking_uri, store.tracking_uri)


def find_experiment(client: "MlflowClient", store: Store, name: str) -> str:
    """Return the id of experiment `name`; it is created if it does not exist.

    Raises:
        LookupError: the experiment was deleted in MLflow.
    """
    from mlflow.exceptions import MlflowException

    if (experiment := client.get_experiment_by_name(name)) is None:
        try:
            return str(client.create_experiment(name, artifact_location=store.artifact_location))
        except MlflowException:
            # Another run may have created it in between.
            if (experiment := client.get_experiment_by_name(name)) is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise LookupError(
            f"experiment {name!r} is deleted in MLflow at {store.label}; restore it there, "
            "or set another name in tracking.experiment"
        )
    return str(experiment.experiment_id)


def find_run(client: "MlflowClient", store: Store, experiment: str, run_name: str, key: tuple[str, str]) -> str:
    """Return the id of the run of `experiment` with the tag `key`, (name, value); it is created if it does not exist.

    The tag finds runs of earlier attempts, and runs whose creation succeeded although its response was lost.
    """
    experiment_id = find_experiment(client, store, experiment)
    name, value = key
    if found := client.search_runs([experiment_id], f"tags.`{name}` = '{value}'", max_results=1):
        return str(found[0].info.run_id)
    tags = {name: value, "mlflow.source.name": "pyramidion", "mlflow.user": _user_name()}
    return str(client.create_run(experiment_id, tags=tags, run_name=run_name).info.run_id)


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # In a container, the user id may have no name.
        return "unknown"
