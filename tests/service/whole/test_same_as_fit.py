"""A document gives the same result through the service and on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.spec.load import apply_override, write_yaml

Document = dict[str, Any]

ROOT = Path(__file__).parents[3]
NUMBERS = ("summary", "tasks", "val")


def fit(document: Document, data_root: Path, folder: Path) -> dict[str, Any]:
    """Run `fit` in a process with one thread and return its result."""
    (folder / "job.yaml").write_text(write_yaml(document))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    arguments = ["fit", "--config", "job.yaml", "--data-root", str(data_root), "--run-dir", "run"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "service.cli", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads((folder / "run" / "result.json").read_text()))


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Return the places where two JSON values differ, numbers by more than 1e-6."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        return [line for key in ours for line in differences(ours[key], theirs[key], f"{path}/{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = zip(ours, theirs, strict=True)
        return [line for n, (a, b) in enumerate(pairs) for line in differences(a, b, f"{path}/{n}")]
    if isinstance(ours, float) and isinstance(theirs, float):
        return [] if abs(ours - theirs) <= 1e-6 else [f"{path}: {ours} {theirs}"]
    return [] if ours == theirs else [f"{path}: {ours} {theirs}"]


def test_job_and_fit_give_the_same_metrics(service: Any, small: Document, demo_root: Path, tmp_path: Path) -> None:
    job = service.submit(small)
    expected = fit(small, demo_root.parent, tmp_path)
    assert service.wait(job)["status"] == "succeeded", service.describe(job)
    result = service.results(job)
    assert result["summary"].keys() == expected["summary"].keys()
    assert any(number for number in expected["summary"].values())
    assert differences({n: result[n] for n in NUMBERS}, {n: expected[n] for n in NUMBERS}) == []


@pytest.mark.slow
def test_job_and_fit_give_the_same_metrics_on_bccd(service: Any, tmp_path: Path) -> None:
    roots = [Path(part) for part in os.environ.get("PYRAMIDION_DATA_ROOTS", "").split(os.pathsep) if part]
    data_root = next((root for root in roots if (root / "bccd").is_dir()), None)
    if data_root is None:
        pytest.skip("no folder of PYRAMIDION_DATA_ROOTS contains bccd")
    from pipelines.spec.load import read_document

    document = apply_override(read_document("recipe:bccd"), "trainer.max_epochs", 2)
    expected = fit(document, data_root, tmp_path)
    other = type(service)(tmp_path / "root", data_root, cpus=1)
    other.start()
    job = other.submit(document)
    ended = other.wait(job, 280)
    result = other.results(job) if ended["status"] == "succeeded" else {}
    assert other.stop() == 0
    assert differences({n: result.get(n) for n in NUMBERS}, {n: expected[n] for n in NUMBERS}) == []
