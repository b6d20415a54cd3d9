"""`pyramidion gc`: what would be deleted, and what is."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.cli import main
from tests.service.retention.conftest import Root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_mlflow_settings: None) -> Root:
    monkeypatch.setenv("PYRAMIDION_ROOT", str(tmp_path / "root"))
    return Root(tmp_path / "root")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["gc", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_dry_run_lists_files_and_bytes_and_deletes_nothing(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    job = root.ended(10, num_bytes=1234)
    document = printed(capsys, "--dry-run")
    assert document["dry_run"]
    assert document["num_bytes"] == 1234
    (row,) = document["deletions"]
    assert (row["kind"], row["job_id"], row["paths"]) == ("checkpoint", job, [f"jobs/{job}/checkpoints/last.ckpt"])
    assert root.run_dir(job).last_checkpoint.exists()
    assert main(["gc", "--dry-run"]) == 0
    table = capsys.readouterr().out
    assert "1,234 bytes would be deleted, 1 item" in table
    assert f"jobs/{job}/checkpoints/last.ckpt" in table


def test_rules_are_options(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = root.ended(1), root.ended(2)
    document = printed(capsys, "--keep-jobs", "1")
    assert [row["job_id"] for row in document["deletions"]] == [old]
    assert [root.run_dir(job).path.exists() for job in (new, old)] == [True, False]
    assert main(["gc", "--keep-jobs", "-1"]) == 78
    assert "--keep-jobs: got -1" in capsys.readouterr().err.replace("'", "")


def test_folder_without_a_service_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", "--root", str(tmp_path / "typo")]) == 78
    assert "has no service.db; name the root of a service" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()
