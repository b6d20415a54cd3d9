"""However a run of pytest fails, its exit code says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PASSING = "def test_nothing(): pass\n"


@pytest.mark.parametrize(
    ("tests", "conftest", "code"),
    [
        (PASSING, "", 0),
        ("def test_nothing(): assert False\n", "", 1),
        ("def test_nothing(): raise KeyboardInterrupt\n", "", 2),
        (PASSING, "def pytest_unconfigure(): raise RuntimeError\n", 1),
    ],
)
def test_exit_code_is_that_of_pytest(tests: str, conftest: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_it.py").write_text(tests)
    (tmp_path / "conftest.py").write_text(conftest)
    command = [sys.executable, "-m", "pytest", "-p", "tests.process_end", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == code, done.stdout + done.stderr
