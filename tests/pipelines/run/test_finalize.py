"""The end of a run: comparing with a champion of other data, and resuming after a kill."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.errors import ConfigError, DataError
from pipelines.data.dataset.index import build_index
from pipelines.preflight import Inputs
from pipelines.run.attempt import Attempt
from pipelines.run.folder_setup import choose_run_dir, require_same_data
from pipelines.run.val_scores import evaluate_exported
from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import RUN_DIR_VARIABLE, RunDir
from pipelines.spec.load import apply_override, resolved, validate_document, write_yaml
from pipelines.spec.result import SkippedImage
from pipelines.tracking.mlflow_store import Store, connect
from pipelines.training.stopping import StopRequest

Document = dict[str, Any]
MakeAttempt = Callable[[Document], Attempt]


def test_champion_is_scored_at_its_own_image_size(small: Document, finished: RunDir, attempt_at: MakeAttempt) -> None:
    attempt = attempt_at(apply_override(small, "data.image_size", 64))
    select = json.loads(finished.result.read_text())["select"]
    scored = evaluate_exported(attempt, finished.model, "models:/m/1")
    assert scored is not None
    assert scored.scores.summary[select["metric"]] == pytest.approx(select["value"], abs=1e-6)


def test_champion_is_evaluated_by_the_document_of_the_new_run(
    small: Document, finished: RunDir, attempt_at: MakeAttempt
) -> None:
    document = apply_override(small, "model.tasks.identity.gallery", "train")
    attempt = attempt_at(apply_override(document, "model.select", {"metric": "val/identity/recall_at_1"}))
    scored = evaluate_exported(attempt, finished.model, "models:/m/1")
    assert scored is not None
    assert scored.scores.tasks["identity"]["num_gallery"] > 0
    assert scored.scores.summary["val/identity/recall_at_1"] is not None


def test_champion_that_cannot_be_loaded_stays_champion_with_a_warning(
    small: Document, finished: RunDir, attempt_at: MakeAttempt, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished.model, tmp_path / "model")
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**described, "format": 99}))
    attempt = attempt_at(small)
    assert evaluate_exported(attempt, folder, "models:/m/1") is None
    (warning,) = read_events(attempt.run_dir.events)
    assert "models:/m/1 cannot be loaded and stays champion" in warning.data["message"]


def test_champion_with_other_classes_stays_champion_with_a_warning(
    small: Document, finished: RunDir, attempt_at: MakeAttempt, tmp_path: Path
) -> None:
    folder = shutil.copytree(finished.model, tmp_path / "model")
    described = json.loads((folder / "model.json").read_text())
    described["categories"]["scene"].pop()
    (folder / "model.json").write_text(json.dumps(described))
    attempt = attempt_at(small)
    assert evaluate_exported(attempt, folder, "models:/m/1") is None


def test_untracked_result_of_a_killed_attempt_is_tracked_by_the_next_attempt(
    small: Document,
    finished: RunDir,
    demo_root: Path,
    command: Callable[..., int],
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri)
    job = validate_document({**small, "tracking": {"experiment": "tests"}})
    run_dir = RunDir.of(shutil.copytree(finished.path, tmp_path / "run"))
    run_dir.config_yaml.write_text(write_yaml(resolved(job)))
    run_dir.tracking_journal.touch()
    shutil.rmtree(run_dir.plots)  # as with `evaluation.plots: false`
    assert command("fit", "--config", run_dir.config_yaml, "--data.root", demo_root, "--run-dir", run_dir.path) == 0
    messages = [str(event.data.get("message")) for event in read_events(run_dir.events)]
    assert [message for message in messages if "MLflow" in message] == []
    client = connect(store)
    run = client.get_run(json.loads(run_dir.tracking_state.read_text())["run_id"])
    result = json.loads(run_dir.result.read_text())
    assert {name: run.data.metrics.get(name) for name in result["summary"]} == result["summary"]
    for row in result["tasks"]["shapes"]["per_class"]:
        assert run.data.metrics.get(f"{result['split']}/shapes/per_class/{row['label']}/AP50") == row["AP50"]
    assert {used.tags[0].value for used in run.inputs.dataset_inputs} == {"train", "val", "test"}
    assert {"result.json", "worst"} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    assert "worst/shapes.json" in [file.path for file in client.list_artifacts(run.info.run_id, "worst")]


def test_run_resumes_only_with_its_original_data(
    small: Document, finished: RunDir, attempt_at: MakeAttempt, tmp_path: Path
) -> None:
    run_dir = RunDir.of(shutil.copytree(finished.path, tmp_path / "copy"))
    report = attempt_at(small).report
    require_same_data(run_dir, report)
    report.fingerprints["val"] = "other"
    with pytest.raises(DataError, match="has changed in val since"):
        require_same_data(run_dir, report)
    run_dir.last_checkpoint.unlink()
    require_same_data(run_dir, report)


def test_error_about_changed_data_names_images_that_only_one_attempt_skipped(
    small: Document, finished: RunDir, attempt_at: MakeAttempt, tmp_path: Path
) -> None:
    run_dir = RunDir.of(shutil.copytree(finished.path, tmp_path / "copy"))
    report = attempt_at(small).report
    report.skipped = [SkippedImage(file=f"images/{name}.png", split="val", kind="missing_image") for name in "abcd"]
    report.write(run_dir.data_report)
    report.fingerprints["val"] = "other"
    report.skipped[:] = [SkippedImage(file="images/x.png", split="val", kind="unreadable_image")]
    with pytest.raises(DataError, match=r"\(images/x\.png is skipped now, images/a\.png was skipped then, .* 2 more\)"):
        require_same_data(run_dir, report)


def test_result_says_that_no_image_was_skipped(finished: RunDir) -> None:
    assert json.loads(finished.result.read_text())["data"] == {"num_skipped": 0, "skipped": []}


def test_run_resumes_without_its_initial_weights(
    small: Document, finished: RunDir, demo_root: Path, tmp_path: Path
) -> None:
    job = validate_document(small)
    index, report = build_index(job, demo_root)
    gone = Inputs(demo_root, str(tmp_path / "gone.safetensors"))
    Attempt(job, gone, index, report, finished, StopRequest()).build()
    with pytest.raises(ConfigError, match=r"gone\.safetensors"):
        Attempt(job, gone, index, report, RunDir.of(tmp_path / "new"), StopRequest()).build()


def test_given_data_root_takes_precedence_over_the_earlier_one(
    finished: RunDir, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("validate", "--run-dir", finished.path, "--data-root", tmp_path) == 78
    assert f"no folder 'demo' below {tmp_path}" in capsys.readouterr().err


def test_rank_of_another_launcher_is_rejected(small: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_DIR_VARIABLE, raising=False)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ConfigError, match="without a launcher"):
        choose_run_dir(validate_document(small), None, tmp_path)
