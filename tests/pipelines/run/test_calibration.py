"""`evaluation.calibrate: temperature`: other scores in the same order, with the same AP, wherever the model is used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.inference.predictor import Predictor
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import apply_override, write_yaml

Command = Callable[..., int]


@pytest.fixture(scope="module")
def calibrated(
    command: Command, small: dict[str, Any], demo_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunDir:
    """The same run as `finished`, calibrated."""
    folder = tmp_path_factory.mktemp("calibrated")
    (folder / "job.yaml").write_text(write_yaml(apply_override(small, "evaluation.calibrate", "temperature")))
    run_dir = RunDir.of(folder / "run")
    words = ("--config", folder / "job.yaml", "--data-root", demo_root.parent, "--run-dir", run_dir.path)
    assert command("fit", *words) == 0
    return run_dir


def result_of(run_dir: RunDir) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(run_dir.result.read_text())
    return result


@pytest.mark.integration
def test_ap_stays_and_the_calibration_error_falls_on_val(finished: RunDir, calibrated: RunDir) -> None:
    before, after = result_of(finished), result_of(calibrated)
    # The float32 scores of 1e-7 differences can become equal.
    for split in ("val", "test"):
        own, other = (r["val"]["summary"] if split == "val" else r["summary"] for r in (before, after))
        ranked = [key for key in own if key.startswith((f"{split}/shapes/", f"{split}/identity/")) or "mAP" in key]
        assert {key: other[key] for key in ranked} == pytest.approx({key: own[key] for key in ranked}, abs=1e-6)
    fitted = after["model"]["calibration"]
    assert fitted.keys() == {"shapes", "scene"}
    for name, own in fitted.items():
        assert own["temperature"] > 0
        assert before["val"]["tasks"][name]["calibration"]["ece"] == pytest.approx(own["ece_before"], abs=1e-5)
        assert after["val"]["tasks"][name]["calibration"]["ece"] == pytest.approx(own["ece_after"], abs=1e-5)
        assert own["ece_after"] < own["ece_before"]
    assert "calibration" not in before["model"]


@pytest.mark.integration
def test_every_way_to_predict_gives_the_calibrated_scores(
    command: Command, finished: RunDir, calibrated: RunDir, demo_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted((demo_root / "images/test").iterdir())[:2]
    plain, exported = (Predictor.from_exported(run.model).predict(images) for run in (finished, calibrated))
    capsys.readouterr()
    assert command("predict", "--run-dir", calibrated.path, *images) == 0
    from_run = json.loads(capsys.readouterr().out)
    temperatures = {name: own["temperature"] for name, own in result_of(calibrated)["model"]["calibration"].items()}
    for name, field in (("shapes", "detections"), ("scene", "labels")):
        for raw, served, printed in zip(plain, exported, from_run, strict=True):
            rows = [answer["tasks"][name][field] for answer in (raw, served, printed)]
            scores = [np.array([row["score"] for row in own]) for own in rows]
            assert [row["label"] for row in rows[1]] == [row["label"] for row in rows[0]]
            logits = np.log(scores[0]) - np.log1p(-scores[0])
            assert scores[1] == pytest.approx(1 / (1 + np.exp(-logits / temperatures[name])), abs=1e-5)
            assert scores[2] == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.integration
def test_best_thresholds_are_those_of_the_calibrated_scores(
    command: Command, finished: RunDir, calibrated: RunDir
) -> None:
    temperature = result_of(calibrated)["model"]["calibration"]["shapes"]["temperature"]
    stored = json.loads((calibrated.model / "model.json").read_text())
    assert stored["temperatures"]["shapes"] == temperature
    before = set((calibrated.path / "eval").glob("*"))
    assert command("test", "--run-dir", calibrated.path) == 0
    (written,) = set((calibrated.path / "eval").glob("*")) - before
    again = json.loads((written / "result.json").read_text())
    assert again["summary"] == pytest.approx(result_of(calibrated)["summary"], abs=1e-6)
    own, plain = (result_of(run)["val"]["tasks"]["shapes"]["per_class"] for run in (calibrated, finished))
    for row, other in zip(own, plain, strict=True):
        assert stored["best_thresholds"]["shapes"][row["label"]] == row["best_threshold"]
        assert row["f1_at_best"] == pytest.approx(other["f1_at_best"], abs=1e-6)
