"""The folder of a run is chosen, locked, and compared with an earlier attempt."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from pipelines.preflight import Inputs
from pipelines.run.folder_setup import choose_run_dir, locked, read_inputs, write_documents
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RUN_DIR_VARIABLE, RunDir
from pipelines.spec.job import JobSpec
from pipelines.spec.load import apply_override, load_job, read_yaml, resolved, validate_document, write_yaml

pytestmark = pytest.mark.usefixtures("command_line")

Document = dict[str, Any]

HOLD = """
import sys
from pathlib import Path
from pipelines.run_folder.layout import RunDir
from pipelines.run.folder_setup import locked
with locked(RunDir.of(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""

FORK = """
import os, sys, time
from pathlib import Path
from pipelines.run_folder.layout import RunDir
from pipelines.run.folder_setup import locked
with locked(RunDir.of(Path(sys.argv[1]))):
    if child := os.fork():
        print(child, flush=True)
    time.sleep(60)
"""

ROOT = Path(__file__).parents[3]


@pytest.fixture
def job(small: Document) -> JobSpec:
    return validate_document(small)


@pytest.fixture
def started(small: Document, job: JobSpec, tmp_path: Path) -> RunDir:
    """Return a run with documents but without a result."""
    run_dir = RunDir.of(tmp_path / "run")
    write_documents(run_dir, small, job, Inputs(Path("/data/demo"), "none"))
    return run_dir


def choose(job: JobSpec, path: Path | None) -> RunDir:
    os.environ.pop(RUN_DIR_VARIABLE, None)
    return choose_run_dir(job, path, Path("runs"))


def refusal(job: JobSpec, path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        choose(job, path)
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_folder_is_named_after_the_job_by_default_and_passed_to_other_ranks(
    job: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = choose(job, None)
    assert run_dir.path.parent == Path.cwd() / "runs"
    assert run_dir.path.name.startswith("small-20")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_run_dir(job, Path("elsewhere"), Path("runs")) == run_dir


def test_submitted_and_complete_document_and_inputs_are_recorded(
    started: RunDir, job: JobSpec, small: Document
) -> None:
    assert read_yaml(started.job_yaml.read_text(), "job.yaml") == small
    assert load_job([str(started.config_yaml)]) == job
    assert read_inputs(started) == Inputs(Path("/data/demo"), "none")


def test_run_with_the_same_document_is_resumed(started: RunDir, small: Document) -> None:
    reordered = {**small, "model": {**small["model"], "tasks": dict(reversed(small["model"]["tasks"].items()))}}
    explicit = apply_override(reordered, "model.unfreeze", {"0": "all"})
    assert choose(validate_document(explicit), started.path) == started


def test_run_with_another_document_is_rejected_with_the_differing_fields(started: RunDir, small: Document) -> None:
    started.last_checkpoint.parent.mkdir()
    started.last_checkpoint.touch()
    other = apply_override(apply_override(small, "model.optimizer.lr", 1), "model.ema", None)
    message = refusal(validate_document(other), started.path)
    assert "other values of model.ema, model.optimizer.lr; name a new folder" in message


def test_document_may_be_changed_until_training_has_started(started: RunDir, small: Document) -> None:
    changed = apply_override(small, "model.optimizer.lr", 1)
    job = validate_document(changed)
    assert choose(job, started.path) == started
    write_documents(started, changed, job, Inputs(Path("/data/demo"), "none"))
    assert read_yaml(started.job_yaml.read_text(), "job.yaml") == changed


def test_finished_run_is_rejected(started: RunDir, job: JobSpec) -> None:
    started.result.write_text("{}")
    assert "has a result already; name a new folder" in refusal(job, started.path)


def test_run_with_an_unregistered_result_is_resumed(small: Document, tmp_path: Path) -> None:
    registering = validate_document(apply_override(small, "tracking", {"register_as": "demo"}))
    run_dir = RunDir.of(tmp_path / "run")
    write_documents(run_dir, small, registering, Inputs(Path("/data/demo"), "none"))
    run_dir.result.write_text("{}")
    assert choose(registering, run_dir.path) == run_dir
    run_dir.registration.write_text("{}")
    assert "has a result already" in refusal(registering, run_dir.path)


def test_folder_with_other_files_is_rejected(job: JobSpec, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").touch()
    assert "contains files but not those of a run" in refusal(job, tmp_path / "thesis")
    assert "is a file; name a folder" in refusal(job, tmp_path / "thesis" / "chapter1.tex")


def test_run_killed_before_it_wrote_its_documents_starts_again(job: JobSpec, tmp_path: Path) -> None:
    run_dir = RunDir.of(tmp_path / "run")
    write_atomic(run_dir.attempt(1) / "run.json", "{}")
    write_atomic(run_dir.job_yaml, "{}")
    run_dir.lock.touch()
    (run_dir.path / ".config.yaml.x8f2").write_text("nam")
    assert choose(job, run_dir.path) == run_dir


def test_folder_that_cannot_be_written_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = r"--run-dir: .*/file/run cannot be written \(Not a directory\); name another folder"
    with pytest.raises(ConfigError, match=message), locked(RunDir.of(tmp_path / "file/run")):
        pass


def test_locked_folder_is_rejected_until_its_holder_is_killed(tmp_path: Path) -> None:
    run_dir = RunDir.of(tmp_path / "run")
    command = [sys.executable, "-c", HOLD, str(run_dir.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(ConfigError, match="is in use by another process"), locked(run_dir):
            pass
        holder.kill()
    with locked(run_dir):
        pass


def test_forked_child_that_outlives_a_run_does_not_hold_the_lock(tmp_path: Path) -> None:
    run_dir = RunDir.of(tmp_path / "run")
    with subprocess.Popen(
        [sys.executable, "-c", FORK, str(run_dir.path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        try:
            parent.wait()
            with locked(run_dir):
                os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def test_inputs_of_a_folder_without_inputs_json_are_unknown(tmp_path: Path) -> None:
    assert read_inputs(RunDir.of(tmp_path)) is None
    (tmp_path / "inputs.json").write_text(json.dumps({"data": "/x", "weights": "default"}))
    assert read_inputs(RunDir.of(tmp_path)) == Inputs(Path("/x"), "default")


def old_document(small: Document) -> Document:
    """Return a complete document of an earlier version: with old field names, and without a new field."""
    surgery = {"reparameterise": True}
    document = apply_override(small, "model.backbone", {"design": {"preset": "resnet18"}, "surgery": surgery})
    written = resolved(validate_document(document))
    design, surgery = written["model"]["backbone"]["design"], written["model"]["backbone"]["surgery"]
    design["initialisation"] = design.pop("initialization")
    surgery["reparameterise"] = surgery.pop("reparameterize")
    del written["model"]["channels_last"]
    return written


def test_run_of_an_earlier_version_is_resumed(small: Document, tmp_path: Path) -> None:
    earlier = old_document(small)
    job = validate_document(earlier)
    run_dir = RunDir.of(tmp_path / "run")
    write_documents(run_dir, earlier, job, Inputs(Path("/data/demo"), "none"))
    run_dir.config_yaml.write_text(write_yaml(earlier))
    run_dir.last_checkpoint.parent.mkdir()
    run_dir.last_checkpoint.touch()
    current = resolved(job)
    assert current["model"]["backbone"]["surgery"]["reparameterize"]
    assert choose(validate_document(current), run_dir.path) == run_dir
    assert choose(load_job([str(run_dir.job_yaml)]), run_dir.path) == run_dir
    other = apply_override(current, "model.backbone.surgery.reparameterize", False)
    message = refusal(validate_document(other), run_dir.path)
    assert "other values of model.backbone.surgery.reparameterize; name a new folder" in message
