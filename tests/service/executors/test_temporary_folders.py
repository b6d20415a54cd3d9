"""Temporary folders of attempts that are killed."""

import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


def test_sweep_removes_the_temporary_folder_of_a_killed_attempt(
    attempt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    program = textwrap.dedent("""
        import time
        from pipelines.base.process_folder import ProcessFolder
        folder = ProcessFolder()
        print("ready", flush=True)
        time.sleep(600)
    """)
    attempt.start(sys.executable, "-c", program, PYTHONPATH=str(ROOT), TMPDIR=str(temporary)).until_it_says("ready")
    assert len(list(temporary.iterdir())) == 1
    assert attempt.executor.sweep(attempt.folder)
    assert list(temporary.iterdir()) == []
