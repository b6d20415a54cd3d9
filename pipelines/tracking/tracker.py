"""One MLflow run for one run folder. Torch-free; MLflow is imported by the thread that talks to it.

Whoever logs only appends to a file; a thread sends. So MLflow, slow or unreachable, neither stops nor slows training.
"""

import json
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.run_folder.files import write_atomic
from pipelines.spec.training import TrackingSpec
from pipelines.tracking.journal import MAX_METRICS, Entry, Journal, grouped
from pipelines.tracking.mlflow_names import cut, mlflow_key
from pipelines.tracking.mlflow_store import connect, find_run, find_store, told

if TYPE_CHECKING:
    from mlflow import MlflowClient

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

STATE_FILE = "tracking.json"
JOURNAL_FILE = "tracking_buffer.jsonl"
KEY_TAG = "pyramidion.tracking_key"
MAX_PARAMS = 100
SEND_EVERY_S = 1.0
LONGEST_PAUSE_S = 60.0
LAST_TRIES = 3
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class Tracker:
    """Sends parameters, metrics, tags and files of one run folder to one MLflow run.

    The run is `MLFLOW_RUN_ID` where that is set, and then its final status is left to who set it; else the run of an
    earlier attempt in this folder; else a new one. What is logged waits in `tracking_buffer.jsonl` of the run folder
    until it arrived; what has not by `close` stays there, and the next tracker of the folder sends it.

    Only rank 0 has one. No method raises because of MLflow; `tell` gets what users should know, an outage once, always
    in the thread of the caller.

    Attributes:
        store: where MLflow is.
        imported: set once MLflow's modules are loaded (or cannot be): fork no data workers before.
    """

    def __init__(
        self, spec: TrackingSpec, *, run_name: str, run_dir: Path, runs_root: Path, tell: Callable[[str], None]
    ) -> None:
        self.store = find_store(runs_root)
        self.imported = threading.Event()
        self._spec, self._run_name, self._run_dir, self._tell = spec, run_name, run_dir.resolve(), tell
        self._adopted_run_id = os.environ.get("MLFLOW_RUN_ID") or None
        self._state = self._read_state()
        self._write_state()
        self._journal = Journal(self._run_dir / JOURNAL_FILE)
        self._notices: deque[str] = deque()
        self._client: MlflowClient | None = None
        self._failures, self._has_refused, self._last_arrival = 0, False, time.monotonic()
        self._wake, self._closing, self._abandoned = threading.Event(), threading.Event(), threading.Event()
        self._log_status("RUNNING")
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        """Id of the MLflow run; None as long as it is not known."""
        run_id: str | None = self._state["run_id"]
        return run_id

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log parameters, such as those of `flatten`."""
        items = list(params.items())
        for start in range(0, len(items), MAX_PARAMS):
            self._append({"kind": "batch", "params": dict(items[start : start + MAX_PARAMS])})

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Log tags of the run."""
        named = {mlflow_key(key): cut(text) for key, text in tags.items()}
        self._append({"kind": "batch", "tags": named})

    def log_metrics(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Log numbers of one step, under the time of now; undefined ones (None) are left out."""
        now_ms = int(time.time() * 1000)
        points = [(mlflow_key(key), float(x), now_ms, step) for key, x in metrics.items() if x is not None]
        for start in range(0, len(points), MAX_METRICS):
            self._append({"kind": "batch", "metrics": points[start : start + MAX_METRICS]})

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file, or the content of a folder, to `folder` of the run's artifacts (default: the top; a folder's own
        name). It is read when it is sent."""
        self._append({"kind": "artifact", "path": os.path.relpath(path, self._run_dir), "folder": folder})

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until all was sent; False where MLflow failed again, or nothing arrived for `timeout_s`."""
        failures = self._failures
        self._wake.set()
        self._wait_until(
            lambda: self._all_is_sent or self._failures > failures or not self._thread.is_alive(), timeout_s
        )
        self._tell_notices()
        return self._all_is_sent

    def close(self, status: RunStatus, timeout_s: float = 30.0) -> bool:
        """End the run with `status` (not an adopted one), send what is left; return whether all was sent.

        It takes as long as things arrive, and `timeout_s` more.
        """
        self._log_status(status)
        self._closing.set()
        self._wake.set()
        self._wait_until(lambda: not self._thread.is_alive(), timeout_s)
        self._abandoned.set()
        all_sent = self._all_is_sent
        if not all_sent:
            self._notices.append(
                f"MLflow at {self.store.label}: {self._journal.count()} entries could not be sent; they are kept in "
                f"{self._journal.path} and are sent when this run folder is used again"
            )
        self._journal.close()
        self._tell_notices()
        return all_sent

    def _wait_until(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        """Wait, but not longer than `timeout_s` after the last entry that arrived."""
        began = time.monotonic()
        while not is_done() and time.monotonic() - max(began, self._last_arrival) < timeout_s:
            time.sleep(0.02)

    @property
    def _all_is_sent(self) -> bool:
        return self._journal.is_empty and self.run_id is not None

    def _append(self, entry: Entry) -> None:
        try:
            self._journal.append(entry)
        except OSError as error:
            self._notices.append(f"{self._journal.path}: {error}; this entry is not tracked")
        self._tell_notices()

    def _log_status(self, status: str) -> None:
        if self._adopted_run_id is None:
            self._append({"kind": "status", "status": status, "time_ms": int(time.time() * 1000)})

    def _tell_notices(self) -> None:
        while self._notices:
            self._tell(self._notices.popleft())

    def _read_state(self) -> dict[str, Any]:
        """Return where the run is: of this process' environment, of an earlier attempt, or nowhere yet."""
        fresh = {"tracking_uri": self.store.label, "key": uuid.uuid4().hex, "run_id": self._adopted_run_id}
        try:
            earlier = json.loads((self._run_dir / STATE_FILE).read_text())
        except (OSError, json.JSONDecodeError):
            return fresh
        is_usable = self._adopted_run_id is None and earlier.get("tracking_uri") == self.store.label
        return fresh | earlier if is_usable else fresh

    def _write_state(self) -> None:
        write_atomic(self._run_dir / STATE_FILE, json.dumps(self._state))

    def _work(self) -> None:
        while not self._abandoned.is_set():
            self._wake.clear()
            try:
                self._send_all(self._connected())
            except Exception as error:  # Whatever MLflow raises must not reach training.
                self._note_failure(error)
            else:
                self._note_success()
            finally:
                self.imported.set()
            if self._closing.is_set() and (self._all_is_sent or self._failures >= LAST_TRIES):
                return
            self._wake.wait(self._pause_s())

    def _pause_s(self) -> float:
        if not self._failures:
            return SEND_EVERY_S
        return SEND_EVERY_S if self._closing.is_set() else min(LONGEST_PAUSE_S, 2.0**self._failures)

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            self._notices.append(
                f"MLflow at {self.store.label} fails: {told(error)}; the run goes on, "
                f"what it logs is kept in {self._journal.path} and sent when MLflow answers"
            )

    def _note_success(self) -> None:
        if self._failures:
            self._notices.append(f"MLflow at {self.store.label} answers again; what was kept is sent")
        self._failures = 0

    def _connected(self) -> "MlflowClient":
        """Return the client, after the run was adopted, found or created."""
        if self._client is None:
            client = connect(self.store)
            self.imported.set()
            self._state["run_id"] = self._open_run(client)
            self._write_state()
            self._client = client
        return self._client

    def _open_run(self, client: "MlflowClient") -> str:
        if (known := self.run_id) is not None and self._is_alive(client, known):
            return known
        return find_run(client, self.store, self._spec.experiment, self._run_name, (KEY_TAG, self._state["key"]))

    def _is_alive(self, client: "MlflowClient", run_id: str) -> bool:
        """Whether a run can be logged to. An adopted one must: only a run of our own is replaced."""
        from mlflow.exceptions import MlflowException

        try:
            return bool(client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if self._adopted_run_id is not None or error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def _send_all(self, client: "MlflowClient") -> None:
        while entries := self._journal.read():
            for group, position in grouped(entries):
                if self._abandoned.is_set():
                    return
                self._send(client, group)
                self._journal.mark_sent(position)
                self._last_arrival = time.monotonic()

    def _send(self, client: "MlflowClient", group: Sequence[Entry]) -> None:
        """Send entries that fit one request; one that MLflow refuses for what it says is told and left out."""
        from mlflow.exceptions import MlflowException

        try:
            self._request(client, group)
        except (MlflowException, FileNotFoundError) as error:
            if isinstance(error, MlflowException) and error.error_code not in REFUSALS:
                raise
            if len(group) > 1:
                for entry in group:
                    self._send(client, [entry])
            elif not self._has_refused:
                self._has_refused = True
                self._notices.append(
                    f"MLflow at {self.store.label} refuses an entry, which is left out (told once): {told(error)}"
                )

    def _request(self, client: "MlflowClient", group: Sequence[Entry]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        run_id, first = str(self.run_id), group[0]
        if first["kind"] == "status":
            if first["status"] == "RUNNING":
                client.update_run(run_id, status="RUNNING")
            else:
                client.set_terminated(run_id, first["status"], first["time_ms"])
        elif first["kind"] == "artifact":
            path = Path(os.path.normpath(self._run_dir / first["path"]))
            if path.is_dir():
                client.log_artifacts(run_id, str(path), first["folder"] or path.name)
            else:
                client.log_artifact(run_id, str(path), first["folder"] or None)
        else:
            client.log_batch(
                run_id,
                metrics=[Metric(*point) for entry in group for point in entry.get("metrics", ())],
                params=[Param(key, text) for entry in group for key, text in entry.get("params", {}).items()],
                tags=[RunTag(key, text) for entry in group for key, text in entry.get("tags", {}).items()],
            )
