"""Temporary folders of processes that are killed."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.base.process_folder import ProcessFolder, remove_abandoned_folders

OWNER = """
import sys, time
from pipelines.base.process_folder import ProcessFolder
folder = ProcessFolder()
(folder.path / "file").touch()
print(folder.path, flush=True)
time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this test and of the processes that it starts."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def owner(temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with a folder."""
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", OWNER], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_kept(owner: subprocess.Popen[str]) -> None:
    assert owner.stdout is not None
    path = Path(owner.stdout.readline().strip())
    remove_abandoned_folders()
    assert (path / "file").exists()
    owner.kill()
    owner.wait()
    remove_abandoned_folders()
    assert not path.exists()


def test_own_folder_is_kept_and_stays_locked_until_it_is_removed(temporary: Path) -> None:
    folder = ProcessFolder()
    remove_abandoned_folders()
    remove_others = "from pipelines.base.process_folder import remove_abandoned_folders as remove; remove()"
    subprocess.run([sys.executable, "-c", remove_others], cwd=Path(__file__).parents[3], check=True)
    assert list(temporary.iterdir()) == [folder.path]
    folder.remove()
    assert list(temporary.iterdir()) == []


def test_other_folders_links_and_folders_without_a_lock_are_kept(temporary: Path, tmp_path: Path) -> None:
    names = ["pyramidion-mine", "pyramidion-of-process-0", "elsewhere"]
    for name in names:
        (temporary / name).mkdir()
    (temporary / "elsewhere" / "held").touch()
    (temporary / "pyramidion-of-process-1").symlink_to(temporary / "elsewhere")
    remove_abandoned_folders()
    assert sorted(path.name for path in temporary.iterdir()) == sorted([*names, "pyramidion-of-process-1"])
    assert (temporary / "elsewhere" / "held").exists()
