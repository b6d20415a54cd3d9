"""Tracking with a real MLflow store in SQLite, and with addresses that do not answer."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.tracking_files import BatchEntry, JournalEntry
from pipelines.spec.training import TrackingSpec
from pipelines.tracking.journal import Journal
from pipelines.tracking.mlflow_store import Store, connect, find_store, without_credentials
from pipelines.tracking.tracker import Tracker

pytestmark = pytest.mark.usefixtures("no_mlflow_settings")


@pytest.fixture
def runs_root(mlflow_runs_root: Path) -> Path:
    return mlflow_runs_root


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Yield a port that accepts connections but never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        yield server.getsockname()[1]


def closed_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def track(run_dir: Path, runs_root: Path, warn: Callable[[str], None] = pytest.fail, **spec: str) -> Tracker:
    run_dir.mkdir(exist_ok=True)
    spec_ = TrackingSpec(experiment=spec.get("experiment", "tests"))
    return Tracker(spec_, run_name=run_dir.name, run_dir=run_dir, runs_root=runs_root, warn=warn)


def test_all_logged_entries_arrive_in_one_finished_run(tmp_path: Path, runs_root: Path) -> None:
    plots = tmp_path / "run" / "plots"
    plots.mkdir(parents=True)
    (plots / "curve.txt").write_text("rises")
    tracker = track(tmp_path / "run", runs_root)
    tracker.log_params({"model.optimizer.lr": "0.002"})
    for step in range(1200):
        tracker.log_metrics({"train/kind/loss": 1 / (step + 1), "val/kind/accuracy": None}, step=step)
    tracker.log_tags({"data.fingerprint": "abc"})
    tracker.log_dataset("val", name="shapes", fingerprint="f" * 64, source=tmp_path, counts={"num_images": 3})
    tracker.log_artifact(plots)
    tracker.log_artifact(plots / "curve.txt", "evaluation")
    assert tracker.close("FINISHED")

    client = connect(find_store(runs_root))
    run = client.get_run(str(tracker.run_id))
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["model.optimizer.lr"] == "0.002"
    assert run.data.tags["data.fingerprint"] == "abc"
    assert "val/kind/accuracy" not in run.data.metrics
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest, used.tags[0].value) == ("shapes", "f" * 36, "val")
    assert json.loads(used.dataset.profile) == {"num_images": 3}
    history = client.get_metric_history(run.info.run_id, "train/kind/loss")
    assert sorted((point.step, point.value) for point in history) == [(step, 1 / (step + 1)) for step in range(1200)]
    for folder in ("plots", "evaluation"):
        assert [file.path for file in client.list_artifacts(run.info.run_id, folder)] == [f"{folder}/curve.txt"]
    assert (runs_root / "mlartifacts" / run.info.run_id / "artifacts/plots/curve.txt").is_file()
    assert not RunDir.of(tmp_path / "run").tracking_journal.exists()


def test_resumed_run_folder_continues_the_same_mlflow_run(tmp_path: Path, runs_root: Path) -> None:
    first = track(tmp_path / "run", runs_root)
    first.log_metrics({"loss": 2.0}, step=1)
    assert first.close("KILLED")
    client = connect(find_store(runs_root))
    assert client.get_run(str(first.run_id)).info.status == "KILLED"

    second = track(tmp_path / "run", runs_root)
    assert second.flush()
    assert client.get_run(str(second.run_id)).info.status == "RUNNING"
    second.log_metrics({"loss": 1.0}, step=2)
    assert second.close("FAILED")
    assert second.run_id == first.run_id
    run = client.get_run(str(second.run_id))
    assert run.info.status == "FAILED"
    assert [point.value for point in client.get_metric_history(run.info.run_id, "loss")] == [2.0, 1.0]


def test_run_with_an_unrecorded_id_is_found_again(tmp_path: Path, runs_root: Path) -> None:
    first = track(tmp_path / "run", runs_root)
    assert first.close("KILLED")
    state = RunDir.of(tmp_path / "run").tracking_state
    state.write_text(json.dumps(json.loads(state.read_text()) | {"run_id": None}))
    second = track(tmp_path / "run", runs_root)
    assert second.close("FINISHED")
    assert second.run_id == first.run_id


def test_given_run_is_adopted_and_its_status_is_not_changed(
    tmp_path: Path, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(find_store(runs_root))
    given = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    tracker = track(tmp_path / "run", runs_root)
    tracker.log_metrics({"loss": 3.0}, step=0)
    assert tracker.close("FAILED")
    run = client.get_run(given)
    assert tracker.run_id == given
    assert run.data.metrics == {"loss": 3.0}
    assert run.info.status == "RUNNING"


def test_empty_run_id_in_the_environment_is_ignored(
    tmp_path: Path, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "")
    tracker = track(tmp_path / "run", runs_root)
    assert tracker.close("FINISHED")
    assert tracker.run_id


def test_rejected_entries_cause_one_warning_and_the_others_arrive(tmp_path: Path, runs_root: Path) -> None:
    warned: list[str] = []
    tracker = track(tmp_path / "run", runs_root, warned.append)
    tracker.log_params({"lr": "0.1"})
    tracker.log_params({"lr": "0.2"})
    tracker.log_artifact(tmp_path / "missing.txt")
    tracker.log_metrics({"loss": 1.0}, step=0)
    assert tracker.close("FINISHED")
    run = connect(find_store(runs_root)).get_run(str(tracker.run_id))
    assert run.data.params == {"lr": "0.1"}
    assert run.data.metrics == {"loss": 1.0}
    assert len(warned) == 1
    assert "lr" in warned[0]


def test_outage_causes_one_warning_and_all_entries_arrive_at_the_next_start(
    tmp_path: Path, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{closed_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    down = track(tmp_path / "run", runs_root, warned.append)
    for step in range(50):
        down.log_metrics({"loss": float(step)}, step=step)
    assert not down.flush(timeout_s=20)
    down.log_metrics({"loss": 50.0}, step=50)
    assert not down.close("KILLED", timeout_s=20)
    assert down.run_id is None
    assert ["fails" in text for text in warned] == [True, False]
    assert "52 entries" in warned[-1] or "53 entries" in warned[-1]
    assert "secret" not in "".join(warned) + RunDir.of(tmp_path / "run").tracking_state.read_text()

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    up = track(tmp_path / "run", runs_root)
    assert up.close("FINISHED")
    client = connect(find_store(runs_root))
    steps = [point.step for point in client.get_metric_history(str(up.run_id), "loss")]
    assert sorted(steps) == list(range(51))
    assert client.get_run(str(up.run_id)).info.status == "FINISHED"


def test_kept_entries_are_sent_when_mlflow_answers_again(
    tmp_path: Path, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first a file has the path of the store's folder, so that MLflow fails."""
    warned: list[str] = []
    obstacle = tmp_path / "store"
    obstacle.write_text("in the way")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{obstacle}/mlflow.db")
    tracker = track(tmp_path / "run", runs_root, warned.append)
    tracker.log_metrics({"loss": 1.0}, step=0)
    assert not tracker.flush()
    obstacle.unlink()
    (tmp_path / "store").symlink_to(runs_root)
    assert tracker.close("FINISHED")
    assert len(warned) == 2
    assert "answers again" in warned[1]
    run = connect(find_store(runs_root)).get_run(str(tracker.run_id))
    assert run.data.metrics == {"loss": 1.0}


def test_server_that_never_answers_does_not_slow_down_logging(
    tmp_path: Path, runs_root: Path, monkeypatch: pytest.MonkeyPatch, silent_port: int
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent_port}")
    warned: list[str] = []
    start = time.monotonic()
    tracker = track(tmp_path / "run", runs_root, warned.append)
    for step in range(1000):
        tracker.log_metrics({"loss": 1.0}, step=step)
    assert not tracker.close("FINISHED", timeout_s=0.5)
    assert time.monotonic() - start < 60, "no entry waited for the server, whose time limit is 120 s each"
    assert "kept in" in warned[-1]


def tag(number: int) -> BatchEntry:
    return BatchEntry(kind="batch", tags={"n": str(number)})


def test_line_torn_by_a_kill_does_not_affect_other_entries(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"kind": "batch", "tags": {"n": "1"}}\n{"kind": "batch", "tags": {"n": "2')
    journal = Journal(path)
    journal.append(tag(3))
    assert [entry for entry, _ in journal.read()] == [tag(1), tag(3)]
    journal.mark_sent(journal.read()[-1][1])
    assert journal.is_empty
    assert path.stat().st_size == 0
    journal.close()
    assert not path.exists()


def test_entries_appended_during_sending_keep_their_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    received: list[JournalEntry] = []

    def append() -> None:
        for n in range(2000):
            journal.append(tag(n))

    writer = threading.Thread(target=append)
    writer.start()
    while writer.is_alive() or not journal.is_empty:
        for entry, position in journal.read():
            received.append(entry)
            journal.mark_sent(position)
    assert received == [tag(n) for n in range(2000)]


def test_default_store_is_in_the_runs_folder_for_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_store(Path("runs")) == Store(
        f"sqlite:///{tmp_path}/runs/mlflow.db", f"file://{tmp_path}/runs/mlartifacts"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert find_store(Path("runs")) == Store("http://127.0.0.1:5000")


def test_credentials_are_removed_from_urls() -> None:
    assert without_credentials("GET https://me:pw@host/x failed") == "GET https://host/x failed"
    assert find_store(Path("runs")).label.startswith("sqlite:///")


def test_run_has_a_page_only_on_a_server() -> None:
    assert Store("https://me:pw@host/x/").page_of_run("abc") == "https://host/x/#/runs/abc"
    assert Store("sqlite:////mlflow.db").page_of_run("abc") is None
