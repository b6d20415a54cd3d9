"""`explain` on the folder of a trained run: files, and where the trained network looks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.explain_cli import main
from pipelines.run_folder.layout import RunDir
from pipelines.spec.explanation import ExplanationFacts

pytestmark = pytest.mark.integration


def explain(run_dir: RunDir, image: Path, out: Path, *words: str) -> ExplanationFacts:
    arguments = ["explain", "--run-dir", str(run_dir.path), "--image", str(image), "--out", str(out), *words]
    assert main(arguments) == 0
    return ExplanationFacts.model_validate_json((out / "explanation.json").read_text())


@pytest.fixture(scope="module")
def image(demo_root: Path) -> Path:
    return sorted((demo_root / "images").rglob("*.jpg"))[0]


def test_command_writes_the_map_a_picture_and_the_facts(
    finished: RunDir, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = explain(finished, image, tmp_path / "out", "--task", "scene")
    values = np.load(tmp_path / "out" / "explanation.npy")
    assert values.shape == (facts.map.height, facts.map.width)
    assert Image.open(tmp_path / "out" / "explanation.png").size == Image.open(image).size
    assert json.loads(capsys.readouterr().out) == facts.model_dump()
    assert (facts.method, facts.label) == ("gradcam", facts.predicted_label)


def test_wrong_task_is_an_error_of_its_option(
    finished: RunDir, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--run-dir", str(finished.path), "--image", str(image), "--task", "shape"]) == 78
    assert "--task: got 'shape'; did you mean 'shapes'?" in capsys.readouterr().err
