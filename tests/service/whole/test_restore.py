"""A service is backed up while it trains; the run continues in a restored root to the same result."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service.waiting import wait_until

ROOT = Path(__file__).parents[3]
NUMBERS = ("summary", "tasks", "val")
Document = dict[str, Any]


def pyramidion(*arguments: str) -> None:
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("MLFLOW", "PYRAMIDION"))}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "service.cli", *arguments],
        env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def document(small: Document) -> Document:
    """Several epochs, so that the backup has a checkpoint, and a model that is registered at the end."""
    return {
        **small,
        "trainer": {**small["trainer"], "max_epochs": 4},
        "tracking": {"experiment": "tests", "register_as": "restored"},
    }


@pytest.mark.slow
def test_run_continues_in_a_restored_root_to_the_same_result(service: Any, document: Document, tmp_path: Path) -> None:
    job = service.submit(document)
    wait_until((service.root / "jobs" / job / "checkpoints/last.ckpt").exists, "the first checkpoint")
    pyramidion("backup", str(tmp_path / "backup"), "--root", str(service.root))
    assert service.wait(job, 280)["status"] == "succeeded", service.describe(job)
    expected = service.results(job)
    pyramidion("restore", str(tmp_path / "backup"), "--root", str(tmp_path / "restored"))
    shutil.rmtree(tmp_path / "backup")

    restored = type(service)(tmp_path / "restored", service.data_root, cpus=service.cpus)
    restored.start()
    try:
        ended = restored.wait(job, 280)
        assert ended["status"] == "succeeded", restored.describe(job)
        assert ended["attempt"] == 2
        result = restored.results(job)
        assert {name: result[name] for name in NUMBERS} == {name: expected[name] for name in NUMBERS}
        (version,) = restored.ask("GET", "/v1/models/restored").json()["versions"]
        assert version["version"] == 1
    finally:
        assert restored.stop() == 0
