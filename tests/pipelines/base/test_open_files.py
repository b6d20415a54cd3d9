"""The limit of open files is raised for a run, and a run that needs more is refused before it starts."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pipelines.base.errors import ConfigError
from pipelines.base.open_files import ensure_open_files
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
try:
    ensure_open_files(4)
except ConfigError as error:
    print(error)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def printed_under(soft: int, hard: int) -> str:
    """Return what a process with these limits prints, which then cannot raise them again."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(soft), str(hard)],
        capture_output=True, text=True, check=True, timeout=60, cwd=Path(__file__).parents[3],
    ).stdout  # fmt: skip


def test_soft_limit_is_raised_to_the_hard_one() -> None:
    assert printed_under(64, 1024) == "1024\n"
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 1024


def test_run_that_needs_more_files_is_refused_with_the_remedy() -> None:
    message, limit = printed_under(40, 64).splitlines()
    assert limit == "64"
    assert message.startswith("ulimit -n: got a limit of 64 open files; this run needs 248: raise it with `ulimit -Hn")


@pytest.mark.integration
def test_fit_is_refused_instead_of_hanging(job_yaml: Path, demo_root: Path, tmp_path: Path) -> None:
    words = ("fit", "--config", job_yaml, "--data.root", demo_root, "--run-dir", tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *map(str, words)], cwd=Path(__file__).parents[3], text=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)),
    )  # fmt: skip
    assert done.returncode == 78, done.stderr
    assert "ulimit -n: got a limit of 100 open files; this run needs " in done.stderr


def test_limit_without_bound_is_not_raised_to_a_number_that_slows_programs_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pipelines.base import open_files

    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
    assert open_files.raise_limit() == open_files.MAX_RAISED
    assert raised == [(open_files.MAX_RAISED, resource.RLIM_INFINITY)]
