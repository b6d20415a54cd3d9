"""The command with two processes, as users start it: exit codes, a single result, no leftover files or processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.data.synth.dataset import write_synthetic
from pipelines.spec.load import write_yaml

Document = dict[str, Any]
Start = Callable[..., "subprocess.Popen[str]"]

EVENT_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "demo"
    write_synthetic(root, num_train=17, num_val=5, num_test=1, image_size=128)
    return root


@pytest.fixture
def document(small_document: Document) -> Document:
    small_document["trainer"]["devices"] = 2
    return small_document


@pytest.fixture
def start(tmp_path: Path, no_mlflow_settings: None) -> Start:
    """Start `pipelines.cli` in its own session, with its own folder for temporary files."""
    (tmp_path / "tmp").mkdir()

    def start(command: str, document: Document | None, run: str, *more: str) -> "subprocess.Popen[str]":
        words = [command, "--run-dir", str(tmp_path / run), *more]
        if document is not None:
            (tmp_path / f"{run}.yaml").write_text(write_yaml(document))
            words += ["--config", str(tmp_path / f"{run}.yaml")]
        root = str(Path(__file__).parents[3])
        environment = {**os.environ, "PYTHONPATH": root, "PYTHONSAFEPATH": "1", "TMPDIR": str(tmp_path / "tmp")}
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start


def ended(process: "subprocess.Popen[str]", folder: Path) -> tuple[int, str]:
    """Return exit code and output; check that no process and no meeting folder remains."""
    output, _ = process.communicate(timeout=240)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert list((folder / "tmp").glob("pyramidion-*")) == []
    return process.returncode, output


def wait_until_training(run_dir: Path) -> None:
    wait_for(run_dir, '"progress"')


def wait_for(run_dir: Path, event: str) -> None:
    deadline = time.monotonic() + EVENT_TIMEOUT_S
    events = run_dir / "events.jsonl"
    while not events.exists() or event not in events.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.integration
def test_fit_with_two_processes_ends_with_0_and_one_result(
    start: Start, document: Document, data_root: Path, tmp_path: Path
) -> None:
    document["trainer"]["max_epochs"] = 1
    code, output = ended(start("fit", document, "run", "--data.root", str(data_root)), tmp_path)
    assert code == 0, output
    assert output.count("result in ") == output.count("run folder ") == 1
    assert "Traceback" not in output
    assert [path.name for path in (tmp_path / "run" / "attempts").iterdir()] == ["1"]
    assert json.loads((tmp_path / "run" / "attempts" / "1" / "exit.json").read_text())["code"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("target", ["rank 0", "group"])
def test_stopped_fit_ends_with_75_and_the_next_start_resumes(
    target: str, start: Start, document: Document, data_root: Path, tmp_path: Path
) -> None:
    document["trainer"] |= {"max_epochs": 40, "check_val_every_n_epoch": 40}
    process = start("fit", document, "run", "--data.root", str(data_root))
    wait_until_training(tmp_path / "run")
    (os.kill if target == "rank 0" else os.killpg)(process.pid, signal.SIGTERM)
    code, output = ended(process, tmp_path)
    assert code == 75, output
    assert output.count("\nstopped in epoch ") == 1
    code, output = ended(start("fit", document, "run", "--data.root", str(data_root)), tmp_path)
    assert code == 0, output
    assert output.count("resuming from ") == 1
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["rank 0", "group"])
def test_fit_stopped_in_validation_ends_with_75_unscored_and_the_next_start_validates_first(
    target: str, start: Start, document: Document, tmp_path: Path
) -> None:
    root = tmp_path / "many" / "demo"
    write_synthetic(root, num_train=17, num_val=300, num_test=2, image_size=128)
    process = start("fit", document, "run", "--data.root", str(root))
    wait_for(tmp_path / "run", '"batch": 3, "batches": 3')
    (os.kill if target == "rank 0" else os.killpg)(process.pid, signal.SIGTERM)
    code, output = ended(process, tmp_path)
    assert code == 75, output
    assert output.count("\nstopped in epoch 1 of 2, after step 2; saved in ") == 1
    assert '"metric"' not in (tmp_path / "run" / "events.jsonl").read_text()
    code, output = ended(start("fit", document, "run", "--data.root", str(root)), tmp_path)
    assert code == 0, output
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    reported = [(event["kind"], event["epoch"]) for event in events if event["kind"] in ("progress", "metric")]
    # Progress is reported at two steps of each epoch, and at its last batch, the third one.
    assert sorted(set(reported)) == [("metric", 0), ("metric", 1), ("progress", 0), ("progress", 1)]
    assert [kind for kind, _ in reported].count("metric") == 2
    assert reported.index(("metric", 0)) < reported.index(("progress", 1))


@pytest.mark.slow
def test_fit_with_a_non_finite_loss_ends_with_65(
    start: Start, document: Document, data_root: Path, tmp_path: Path
) -> None:
    document["model"] |= {"optimizer": {"name": "sgd", "lr": 1e30}, "schedule": {}}
    code, output = ended(start("fit", document, "run", "--data.root", str(data_root)), tmp_path)
    assert code == 65, output
    assert output.count("error: the loss ") == 1
    assert "Traceback" not in output


@pytest.mark.slow
def test_image_that_one_rank_cannot_read_is_reported_with_78(
    start: Start, document: Document, data_root: Path, tmp_path: Path
) -> None:
    document["trainer"] |= {"max_epochs": 1000, "check_val_every_n_epoch": 1000}
    process = start("fit", document, "run", "--data.root", str(data_root))
    wait_until_training(tmp_path / "run")
    broken = sorted((data_root / "images" / "train").iterdir())[3]
    content = broken.read_bytes()
    try:
        broken.write_bytes(content[:100])
        code, output = ended(process, tmp_path)
    finally:
        broken.write_bytes(content)
    assert code == 78, output
    assert broken.name in output


@pytest.mark.slow
def test_champion_is_scored_on_other_data_after_a_run_of_two_processes(
    start: Start, document: Document, data_root: Path, tmp_path: Path
) -> None:
    document["trainer"]["max_epochs"] = 1
    document["tracking"] = {"experiment": "two", "register_as": "two"}
    code, output = ended(start("fit", document, "first", "--data.root", str(data_root)), tmp_path)
    assert code == 0, output
    other_root = tmp_path / "other"
    shutil.copytree(data_root, other_root)
    table = other_root / "annotations" / "image_labels.csv"
    first, *rest = [line for line in table.read_text().splitlines() if ",val," in line]
    table.write_text(table.read_text().replace(first, first.rpartition(",")[0] + "," + rest[0].rpartition(",")[2]))
    code, output = ended(start("fit", document, "second", "--data.root", str(other_root)), tmp_path)
    assert code == 0, output
    assert "registered as models:/two/2" in output
