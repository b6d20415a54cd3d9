"""A new folder never looks complete before it is."""

import errno
from pathlib import Path

import pytest

from pipelines.base.errors import ConfigError
from pipelines.data.dataset.new_folder import UNFINISHED, new_folder, require_new


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_content_appears_at_the_end_and_replaces_what_an_interrupted_process_has_left(tmp_path: Path) -> None:
    (tmp_path / UNFINISHED / "images").mkdir(parents=True)
    with new_folder(tmp_path, "--out", "job.yaml") as folder:
        (folder / "job.yaml").touch()
        (folder / "labels").mkdir()
        assert names(tmp_path) == [UNFINISHED]
    assert names(tmp_path) == ["job.yaml", "labels"]


def test_error_leaves_nothing_and_a_full_disk_is_reported(tmp_path: Path) -> None:
    out = tmp_path / "out"
    message = r"--out: .*/out/a.txt cannot be written \(No space left\); free disk space"
    with pytest.raises(ConfigError, match=message), new_folder(out, "--out", "job.yaml") as folder:
        raise OSError(errno.ENOSPC, "No space left", str(folder / "a.txt"))
    assert not out.exists()
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path, "--out", "job.yaml"):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_folder_with_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(ConfigError, match="is not an empty folder; choose a new folder"):
        require_new(tmp_path, "--out")
    (tmp_path / UNFINISHED).mkdir()
    with pytest.raises(ConfigError, match="has an unfinished data set; remove it, or choose a new folder"):
        require_new(tmp_path, "--out")
    (tmp_path / "file").touch()
    message = r"file/out cannot be written \(Not a directory\); choose another folder"
    with pytest.raises(ConfigError, match=message), new_folder(tmp_path / "file" / "out", "--out", "job.yaml"):
        pass
