"""One MLflow run for one run folder. Torch-free; MLflow is imported by the sending thread.

Logging only appends to a file, and a thread sends its entries: a slow or unreachable MLflow neither stops nor slows
training.
"""

import json
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.tracking_files import (
    ArtifactEntry,
    BatchEntry,
    DatasetEntry,
    JournalEntry,
    RunStatus,
    StatusEntry,
    TrackingState,
)
from pipelines.spec.training import TrackingSpec
from pipelines.tracking.journal import MAX_METRICS, Journal, grouped
from pipelines.tracking.mlflow_names import cut, distinct_keys, mlflow_key
from pipelines.tracking.mlflow_requests import send_entries
from pipelines.tracking.mlflow_store import connect, find_run, find_store, one_line
from pipelines.tracking.system_metrics import SystemMetrics

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG = "pyramidion.tracking_key"
MAX_PARAMS = 100
MAX_DATASET_NAME, MAX_DIGEST = 500, 36
"""MLflow's limits for data sets."""
SEND_EVERY_S = 1.0
LONGEST_PAUSE_S = 60.0
LAST_TRIES = 3
REJECTIONS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class Tracker:
    """Sends parameters, metrics, tags and files of one run folder to one MLflow run.

    The run is the one of `MLFLOW_RUN_ID` if that is set (its owner then sets the final status), else the run of an
    earlier attempt in this folder, else a new run. Entries wait in the run folder's `tracking_journal` until they are
    sent; entries that were not sent before `close` stay there, and the next tracker of the folder sends them.

    Only rank 0 has a tracker. No method raises because of MLflow. `warn` is called with what users should know, once
    per outage, always in the thread of the caller.

    Attributes:
        store: the MLflow store.
        imported: set when MLflow's modules are loaded (or failed to load); data workers must not be forked before.
    """

    def __init__(
        self, spec: TrackingSpec, *, run_name: str, run_dir: Path, runs_root: Path, warn: Callable[[str], None]
    ) -> None:
        self.store = find_store(runs_root)
        self.imported = threading.Event()
        self._spec, self._run_name, self._run_dir, self._warn = spec, run_name, run_dir.resolve(), warn
        self._files = RunDir.of(self._run_dir)
        self._adopted_run_id = os.environ.get("MLFLOW_RUN_ID") or None
        self._state = self._read_state()
        self._state.write(self._files.tracking_state)
        self._journal = Journal(self._files.tracking_journal)
        self._system, self._samples = SystemMetrics(), 0
        self._warnings: deque[str] = deque()
        self._client: MlflowClient | None = None
        self._failures, self._has_rejected, self._last_arrival = 0, False, time.monotonic()
        self._wake, self._closing, self._abandoned = threading.Event(), threading.Event(), threading.Event()
        self._log_status("RUNNING")
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        """Id of the MLflow run; None until it is known."""
        return self._state.run_id

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log parameters, such as those of `flatten`."""
        items = list(params.items())
        for start in range(0, len(items), MAX_PARAMS):
            self._append(BatchEntry(kind="batch", params=dict(items[start : start + MAX_PARAMS])))

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Log tags of the run."""
        named = {mlflow_key(key): cut(text) for key, text in tags.items()}
        self._append(BatchEntry(kind="batch", tags=named))

    def log_metrics(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Log metrics of one step with the current time; undefined ones (None) are skipped."""
        self._log_points(metrics, step, self._append)

    def log_dataset(self, split: str, *, name: str, fingerprint: str, source: Path, counts: Mapping[str, int]) -> None:
        """Log a split as an input of the run; MLflow's digest is the start of the fingerprint."""
        self._append(
            DatasetEntry(
                kind="dataset",
                name=cut(name, MAX_DATASET_NAME),
                digest=fingerprint[:MAX_DIGEST],
                source=str(source),
                context=split,
                profile=json.dumps(counts),
            )
        )

    def _log_points(
        self, metrics: Mapping[str, float | None], step: int, append: Callable[[JournalEntry], None]
    ) -> None:
        now_ms, keys = int(time.time() * 1000), distinct_keys(metrics)
        points = [(keys[name], float(x), now_ms, step) for name, x in metrics.items() if x is not None]
        for start in range(0, len(points), MAX_METRICS):
            append(BatchEntry(kind="batch", metrics=points[start : start + MAX_METRICS]))

    def log_artifact(self, path: Path, folder: str = "") -> None:
        """Upload a file, or the content of a folder, when the entry is sent.

        Args:
            path: of the file or folder.
            folder: target folder among the run's artifacts; by default the top, or for a folder its own name.
        """
        self._append(ArtifactEntry(kind="artifact", path=os.path.relpath(path, self._run_dir), folder=folder))

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Wait until all entries were sent; return False if MLflow failed, or accepted nothing for `timeout_s`."""
        failures = self._failures
        self._wake.set()
        self._wait_until(
            lambda: self._all_is_sent or self._failures > failures or not self._thread.is_alive(), timeout_s
        )
        self._report_warnings()
        return self._all_is_sent

    def close(self, status: RunStatus, timeout_s: float = 30.0) -> bool:
        """End the run with `status` (unless it was adopted) and send the remaining entries.

        Sending continues as long as MLflow accepts entries, and stops `timeout_s` after the last one.

        Returns:
            Whether all entries were sent.
        """
        self._log_status(status)
        self._closing.set()
        self._wake.set()
        self._wait_until(lambda: not self._thread.is_alive(), timeout_s)
        self._abandoned.set()
        all_sent = self._all_is_sent
        if not all_sent:
            self._warnings.append(
                f"MLflow at {self.store.label}: {self._journal.count()} entries could not be sent; they are kept in "
                f"{self._journal.path} and sent when this run folder is used again"
            )
        self._journal.close()
        self._report_warnings()
        return all_sent

    def _wait_until(self, is_done: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `is_done`, but at most `timeout_s` after the last entry that MLflow accepted."""
        start = time.monotonic()
        while not is_done() and time.monotonic() - max(start, self._last_arrival) < timeout_s:
            time.sleep(0.02)

    @property
    def _all_is_sent(self) -> bool:
        return self._journal.is_empty and self.run_id is not None

    def _append(self, entry: JournalEntry) -> None:
        try:
            self._journal.append(entry)
        except OSError as error:
            self._warnings.append(f"{self._journal.path}: {error}; an entry for MLflow is lost")
        self._report_warnings()

    def _log_status(self, status: Literal["RUNNING"] | RunStatus) -> None:
        if self._adopted_run_id is None:
            self._append(StatusEntry(kind="status", status=status, time_ms=int(time.time() * 1000)))

    def _report_warnings(self) -> None:
        while self._warnings:
            self._warn(self._warnings.popleft())

    def _read_state(self) -> TrackingState:
        """Return the run of this process's environment, else of an earlier attempt, else one that is not known yet."""
        new = TrackingState(tracking_uri=self.store.label, key=uuid.uuid4().hex, run_id=self._adopted_run_id)
        earlier = TrackingState.read_if_valid(self._files.tracking_state)
        if self._adopted_run_id is not None or earlier is None or earlier.tracking_uri != self.store.label:
            return new
        return new.model_copy(update=earlier.model_dump(exclude_unset=True))

    def _work(self) -> None:
        while not self._abandoned.is_set():
            self._wake.clear()
            self._sample_system()
            try:
                self._send_all(self._connected())
            except Exception as error:  # No error of MLflow may reach training.
                self._note_failure(error)
            else:
                self._note_success()
            finally:
                self.imported.set()
            if self._closing.is_set() and (self._all_is_sent or self._failures >= LAST_TRIES):
                return
            self._wake.wait(self._pause_s())

    def _sample_system(self) -> None:
        if metrics := self._system.sample_if_due():
            self._samples += 1
            with suppress(OSError):
                self._log_points(metrics, self._samples, self._journal.append)

    def _pause_s(self) -> float:
        if not self._failures:
            return SEND_EVERY_S
        return SEND_EVERY_S if self._closing.is_set() else min(LONGEST_PAUSE_S, 2.0**self._failures)

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            self._warnings.append(
                f"MLflow at {self.store.label} fails: {one_line(error)}; the run continues, "
                f"and its metrics are kept in {self._journal.path} and sent when MLflow answers"
            )

    def _note_success(self) -> None:
        if self._failures:
            self._warnings.append(f"MLflow at {self.store.label} answers again; the kept metrics are sent")
        self._failures = 0

    def _connected(self) -> "MlflowClient":
        """Return the client; adopt, find or create the run first."""
        if self._client is None:
            client = connect(self.store)
            self.imported.set()
            self._state = self._state.model_copy(update={"run_id": self._open_run(client)})
            self._state.write(self._files.tracking_state)
            self._client = client
        return self._client

    def _open_run(self, client: "MlflowClient") -> str:
        if (known := self.run_id) is not None and self._is_alive(client, known):
            return known
        return find_run(client, self.store, self._spec.experiment, self._run_name, (KEY_TAG, str(self._state.key)))

    def _is_alive(self, client: "MlflowClient", run_id: str) -> bool:
        """Return whether a run accepts entries; an adopted run must, only runs created here are replaced."""
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

    def _send(self, client: "MlflowClient", group: Sequence[JournalEntry]) -> None:
        """Send entries that fit one request; entries that MLflow rejects are dropped, with one warning."""
        from mlflow.exceptions import MlflowException

        try:
            send_entries(client, str(self.run_id), self._run_dir, group)
        except (MlflowException, FileNotFoundError) as error:
            if isinstance(error, MlflowException) and error.error_code not in REJECTIONS:
                raise
            if len(group) > 1:
                for entry in group:
                    self._send(client, [entry])
            elif not self._has_rejected:
                self._has_rejected = True
                self._warnings.append(
                    f"MLflow at {self.store.label} rejects an entry, which is dropped (warned once): {one_line(error)}"
                )
