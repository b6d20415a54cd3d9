"""`pyramidion predict`: with a run folder, or with a model of a service."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from service import cli

Served = Any


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.jpg"], "pass --run-dir DIR (a run folder) or --model NAME[@ALIAS] (a model of a service)"),
        (["--model", "m", "--run-dir", "r"], "got both --run-dir and --model"),
        (["--run_dir=r", "--model=m", "x.jpg"], "got both --run-dir and --model"),
        (["--model", "m"], "IMAGE is missing; pass image files or folders with image files"),
    ],
)
def test_invalid_combination_is_reported_in_one_line_with_exit_code_2(
    served: Served, arguments: list[str], message: str
) -> None:
    done = served.run("predict", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"pyramidion predict: {message}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["--run-dir", "--run_dir"])
def test_with_a_run_folder_the_process_becomes_the_trainer(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    def execve(*arguments: Any) -> None:
        started.append(arguments)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execve)
    assert cli.main(["predict", option, "runs/x", "--images", "x.jpg", "--draw"]) == 0
    [(_, command, _)] = started
    assert command[1:] == ("-m", "pipelines.cli", "predict", option, "runs/x", "--images", "x.jpg", "--draw")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("missing.jpg", "error: missing.jpg: cannot be read (No such file or directory); pass an image file"),
        (".", "error: .: contains no images ("),
    ],
)
def test_missing_images_are_reported_in_one_line(served: Served, tmp_path: Path, image: str, message: str) -> None:
    done = served.run("predict", "--model", "any", image, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


def test_invalid_threshold_is_reported_before_the_service_is_asked(served: Served, tmp_path: Path) -> None:
    done = served.run("predict", "--model", "any", "--threshold", "2", "x.jpg", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "error: --threshold: got '2'; write best, or a number from 0 to 1, such as 0.4\n"


@pytest.mark.slow
def test_service_predicts_the_same_as_the_run_folder(
    own_service: Any, small_document: dict[str, Any], demo_root: Path, tmp_path: Path
) -> None:
    service = own_service
    service.start()
    document = {**small_document, "tracking": {"experiment": "e", "register_as": "small"}}
    document["trainer"] = {**document["trainer"], "max_epochs": 1}
    (tmp_path / "job.json").write_text(json.dumps(document))
    submitted = service.run("submit", "job.json", "--wait", cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stderr
    images = sorted((demo_root / "images/test").glob("*.jpg"))[:2]
    arguments = ["predict", "--model", "small@champion", *map(str, images), "--draw", "pictures"]
    remote = service.run(*arguments, cwd=tmp_path)
    assert remote.returncode == 0, remote.stderr
    run_dir = service.root / "jobs" / submitted.stdout.strip()
    local = service.run("predict", "--run-dir", str(run_dir), *map(str, images), cwd=tmp_path)
    assert local.returncode == 0, local.stderr
    rows, expected = json.loads(remote.stdout), json.loads(local.stdout)
    assert [row["file"] for row in rows] == [row["file"] for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        found, boxes = row["tasks"]["shapes"]["detections"], wanted["tasks"]["shapes"]["detections"]
        assert [box["score"] for box in found] == pytest.approx([box["score"] for box in boxes], abs=1e-4)
    for threshold in ("best", "0.4"):
        selected = [
            service.run(*words, *map(str, images), "--threshold", threshold, cwd=tmp_path)
            for words in (["predict", "--model", "small@champion"], ["predict", "--run-dir", str(run_dir)])
        ]
        labels = [
            [[label["label"] for label in row["tasks"]["scene"]["labels"]] for row in json.loads(done.stdout)]
            for done in selected
        ]
        assert labels[0] == labels[1]
    pictures = [tmp_path / line for line in remote.stderr.splitlines()]
    assert len(pictures) == 2
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
