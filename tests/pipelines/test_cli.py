"""The commands fit, validate, test and predict as a user calls them: their files, messages and exit codes."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.run_folder.events import read_events
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import load_job, read_yaml, resolved, write_yaml
from pipelines.training.stopping import NOTICE
from tests.pipelines.data.drafting.exports import write_coco

Document = dict[str, Any]
Command = Callable[..., int]

ROOT = Path(__file__).parents[2]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def signal_when() -> Callable[[Callable[[], bool], int], threading.Thread]:
    """Send a signal to this process as soon as a condition holds."""

    def watch(condition: Callable[[], bool], number: int) -> threading.Thread:
        def wait() -> None:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                if condition():
                    os.kill(os.getpid(), number)
                    return
                time.sleep(0.005)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread

    return watch


def test_fit_writes_the_run_folder(finished: RunDir, small: Document, demo_root: Path) -> None:
    submitted = read_yaml(finished.job_yaml.read_text(), "job.yaml")
    assert submitted == {**small, "evaluation": {"plots": True}}
    assert load_job([str(finished.config_yaml)]).model.optimizer.lr == 2e-3
    assert read_json(finished.inputs_json) == {
        "data": str(demo_root), "weights": "none", "init_from": None,
        "precision": {"name": "32-true", "float32_depthwise": False},
    }  # fmt: skip
    attempt = finished.attempt(1)
    assert read_json(attempt / "run.json").keys() == {"pid", "host", "started", "argv"}
    assert read_json(attempt / "exit.json")["code"] == 0
    assert "epoch 2/2" in (attempt / "log.txt").read_text()
    result = read_json(finished.result)
    assert result["split"] == "test"
    assert result["tasks"].keys() == {"identity", "scene", "shapes"}
    assert result["select"]["metric"] == "val/scene/mAP"
    assert not list(finished.path.rglob("*.writing"))
    assert not [path for path in finished.path.rglob(".*") if path != finished.lock]


def test_best_checkpoint_contains_the_averaged_weights_and_their_scores(finished: RunDir) -> None:
    best = torch.load(finished.best_checkpoint, weights_only=True)
    last = torch.load(finished.last_checkpoint, weights_only=True)
    assert best["select"]["value"] == best["val"]["summary"]["val/scene/mAP"]
    assert best["categories"].keys() == {"identity", "scene", "shapes"}
    if best["step"] == last["global_step"]:
        averaged = {name.removeprefix("model."): tensor for name, tensor in last["state_dict"].items()}
        raw = {name.removeprefix("model."): tensor for name, tensor in last["current_model_state"].items()}
        assert all(torch.equal(tensor, averaged[name]) for name, tensor in best["state_dict"].items())
        assert not all(torch.equal(tensor, raw[name]) for name, tensor in best["state_dict"].items())


def test_events_report_stages_progress_and_metrics(finished: RunDir) -> None:
    events = read_events(finished.events)
    lines = [json.loads(line) for line in finished.events.read_text().splitlines()]
    assert len(lines) == len(events)
    assert all(line.keys() == {"time", "kind", "epoch", "step", "data"} for line in lines)
    stages = [event.data["stage"] for event in events if event.kind == "stage"]
    assert stages == ["validating_data", "training", "evaluating"]
    progress = [event for event in events if event.kind == "progress"]
    assert [(e.epoch, e.step, e.data["batch"]) for e in progress] == [
        (0, 1, 2), (0, 2, 4), (0, 3, 5), (1, 4, 2), (1, 5, 4), (1, 6, 5),
    ]  # fmt: skip
    first = progress[0].data
    assert first.keys() == {"losses", "lr", "images_per_s", "left_s", "batch", "batches", "max_epochs"}
    assert all(0 <= event.data["left_s"] < 600 for event in progress)
    assert first["left_s"] > 0
    assert all(name.startswith("train/") and value >= 0 for name, value in first["losses"].items())
    assert progress[1].data["lr"] == pytest.approx(2e-3)
    metrics = [event for event in events if event.kind == "metric"]
    assert [(event.epoch, event.step) for event in metrics] == [(0, 3), (1, 6)]
    assert "val/shapes/AP" in metrics[0].data


def test_finished_and_other_folders_are_rejected(
    command: Command, finished: RunDir, demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data-root", demo_root.parent)
    assert command("fit", "--config", finished.job_yaml, *data, "--run-dir", finished.path) == 78
    assert "has a result already; name a new folder" in capsys.readouterr().err
    assert command("fit", "--config", finished.job_yaml, *data, "--run-dir", finished.path, "--name=other") == 78
    assert "other values of name;" in capsys.readouterr().err


def test_ctrl_c_stops_after_a_step_and_the_same_command_resumes_to_the_same_result(
    command: Command,
    finished: RunDir,
    job_yaml: Path,
    demo_root: Path,
    tmp_path: Path,
    signal_when: Callable[[Callable[[], bool], int], threading.Thread],
    capfd: pytest.CaptureFixture[str],
) -> None:
    run_dir = RunDir.of(tmp_path)
    words = ("fit", "--config", job_yaml, "--data.root", demo_root, "--run-dir", tmp_path)
    events = run_dir.events
    thread = signal_when(lambda: events.exists() and b'"progress"' in events.read_bytes(), signal.SIGINT)
    assert command(*words) == 75
    thread.join()
    captured = capfd.readouterr().err
    assert "error:" not in captured
    assert captured.count(NOTICE) == 1
    assert re.search(r"stopped in epoch [12] of 2, after step ", captured)
    assert f"; saved in {run_dir.last_checkpoint}\n" in captured
    resumed = shlex.join(["pyramidion", *map(str, words)])
    assert f"resume with: {resumed}\n" in captured
    assert "Traceback" not in captured
    assert read_json(run_dir.attempt(1) / "exit.json")["code"] == 75
    assert run_dir.last_checkpoint.exists()
    with run_dir.events.open("a") as file:
        file.write('{"time": 1, "ki')

    assert command(*words) == 0
    assert f"resuming from {run_dir.last_checkpoint}" in capfd.readouterr().err
    assert read_json(run_dir.attempt(2) / "exit.json")["code"] == 0
    one, other = read_json(run_dir.result), read_json(finished.result)
    assert one["summary"] == other["summary"]
    assert one["val"] == other["val"]
    places = [(event.epoch, event.step) for event in read_events(run_dir.events) if event.kind == "progress"]
    assert places == sorted(set(places))


def test_non_finite_loss_ends_the_run_and_is_named(
    command: Command, job_yaml: Path, demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("fit", "--config", job_yaml, "--data.root", demo_root, "--run-dir", tmp_path / "run")
    assert command(*words, "--model.optimizer.lr", "1e30", "--model.schedule.warmup_steps=0") == 65
    output = capsys.readouterr().err
    assert "error: the loss " in output
    assert "/" in output.split("error: the loss ")[1].split(" is ")[0]
    assert "lower model.optimizer.lr" in output
    assert "Traceback" not in output
    assert read_json(tmp_path / "run" / "attempts" / "1" / "exit.json")["code"] == 65


def test_run_can_be_started_again_with_corrected_data(
    command: Command, small: Document, demo_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "job.yaml").write_text(write_yaml(small))
    words = ("fit", "--config", tmp_path / "job.yaml", "--run-dir", tmp_path / "run", "--trainer.max_epochs", "1")
    assert command(*words, "--data.root", tmp_path / "broken") == 78
    output = capsys.readouterr().err
    assert "error: " in output
    assert "Traceback" not in output
    assert command(*words, "--data.root", demo_root) == 0


def test_stop_request_while_the_result_is_written_does_not_lose_the_result(
    command: Command,
    job_yaml: Path,
    demo_root: Path,
    tmp_path: Path,
    signal_when: Callable[[Callable[[], bool], int], threading.Thread],
) -> None:
    words = ("fit", "--config", job_yaml, "--data.root", demo_root, "--run-dir", tmp_path, "--trainer.max_epochs=1")
    thread = signal_when(RunDir.of(tmp_path).predictions.exists, signal.SIGTERM)
    assert command(*words) == 0
    thread.join()
    assert (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["validate", "--run-dir", "nowhere"], "is not a run folder; name one that fit has written"),
        (["test", "--run-dir", "started"], "has no best checkpoint yet"),
        (["predict", "--run-dir", "{finished}", "--images", "absent.jpg"], "absent.jpg: the file is missing"),
        (["predict", "--run-dir", "{finished}", "--images", "started"], "contains no images"),
        (["predict", "--run-dir", "{finished}", "--images", "text.jpg"], "text.jpg"),
        (
            ["test", "--run-dir", "{finished}", "--data.root", "nowhere"],
            "--data.root: got 'nowhere', which is not a folder",
        ),
        (
            ["test", "--run-dir", "{finished}", "--name", "x"],
            "--name: test uses the document of its run folder; only --trainer.* can be set",
        ),
        (["fit"], "--config: missing; name a YAML file, or a recipe such as recipe:demo"),
        (["fit", "--config", "recipe:dem"], "the recipes are"),
        (["fit", "--config", "recipe:demo", "--data.root", "nowhere"], "which is not a folder"),
        (["fit", "--config", "recipe:demo", "epochs=3"], "got 'epochs=3'; fields of the document are set as"),
        (["fit", "--config", "recipe:demo", "--trainer.max_epochs"], "--trainer.max_epochs: has no value"),
        (
            ["fit", "--config", "recipe:demo", "--trainer.max_epochs", "[1"],
            "--trainer.max_epochs: is not valid YAML at line 1",
        ),
        (["fit", "--config", "recipe:demo", "--model.backbone.name", "resnet5O"], "did you mean 'resnet50'"),
        (["fit", "--config", "recipe:demo", "--model.select.metric=val/shapes/Ap"], "did you mean 'val/shapes/AP'"),
    ],
)
def test_invalid_command_line_is_reported(
    command: Command,
    words: list[str],
    expected: str,
    finished: RunDir,
    tmp_path: Path,
    command_line: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / "config.yaml").write_bytes(finished.config_yaml.read_bytes())
    (tmp_path / "text.jpg").write_text("not an image")
    assert command(*[word.replace("{finished}", str(finished.path)) for word in words]) == 78
    captured = capsys.readouterr()
    assert expected in captured.err
    assert all(line.startswith("error: ") for line in captured.err.splitlines())
    assert captured.out == ""


def test_invalid_names_are_all_reported_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pipelines.cli import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'lightning', 'mlflow'} & sys.modules.keys(); sys.exit(code)"
    )
    words = ["fit", "--config", "recipe:demo", "--model.backbone.name", "resnet5O", "--model.select.metric", "AP"]
    words += ["--data.root", str(tmp_path / "absent")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 78, done.stderr
    fields = [line.split(": ")[1] for line in done.stderr.splitlines()]
    assert fields == ["model.backbone.name", "model.select.metric", "--data.root"]


def test_print_config_prints_a_document_of_the_same_job(
    command: Command, job_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("fit", "--config", job_yaml, "--print-config", "--model.unfreeze.0", "[c5]") == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert load_job([str(tmp_path / "printed.yaml")]) == load_job([str(job_yaml)], [("model.unfreeze", "{0: [c5]}")])


def test_unknown_command_is_reported(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("train") == 2
    assert "fit|check|plan|lr-find|validate|test|predict" in capsys.readouterr().err


def test_recipe_that_chooses_is_previewed_and_printed_with_its_reasons(
    command: Command, tmp_path: Path, command_line: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco(tmp_path / "cells")
    words = ["--config", "recipe:finetune", "--data.root", "cells", "--budget", "3m", "--trainer.accelerator", "cpu"]
    words += ["--model.backbone.name", "timm:test_resnet", "--model.backbone.weights", "none"]
    assert command("check", *words, "--json") == 0
    captured = capsys.readouterr()
    config = json.loads(captured.out)["config"]
    assert (config["name"], config["trainer"]["budget"], config["data"]["image_size"]) == ("cells", "3m", 64)
    assert "data.image_size: 64 (" in captured.err
    assert command("fit", *words, "--print-config") == 0
    printed = capsys.readouterr().out
    assert "# data.image_size: 64 (" in printed
    (tmp_path / "printed.yaml").write_text(printed)
    assert resolved(load_job([str(tmp_path / "printed.yaml")])) == config
