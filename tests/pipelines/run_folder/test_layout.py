"""Files of a run folder are written atomically, and attempts and evaluations have their own folders."""

import os
from pathlib import Path

import pytest

from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir


def test_file_is_written_whole_and_readable_for_everyone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    write_atomic(path, "é")
    assert path.read_bytes() == "é".encode()
    write_atomic(path, b"\0")
    assert path.read_bytes() == b"\0"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


def test_old_file_is_kept_if_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_atomic(path, "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=r"No space left on device: '.*/result.json'"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("is_link", [False, True])
def test_device_or_link_is_written_and_not_replaced(tmp_path: Path, is_link: bool) -> None:
    path = tmp_path / "result.json"
    if is_link:
        path.symlink_to("target")
        (tmp_path / "target").touch()
    else:
        os.mkfifo(path)
    reader = os.open(path, os.O_RDWR)
    write_atomic(path, "new")
    assert (path.is_symlink(), path.is_fifo()) == (is_link, not is_link)
    assert os.read(reader, 9) == b"new"
    os.close(reader)


def test_attempts_are_counted_from_one(tmp_path: Path) -> None:
    run_dir = RunDir.of(tmp_path)
    assert run_dir.next_attempt() == 1
    for name in ("1", "12", "notes"):
        (tmp_path / "attempts" / name).mkdir(parents=True)
    assert run_dir.next_attempt() == 13


def test_evaluation_writes_beside_the_results_of_the_run(tmp_path: Path) -> None:
    run_dir = RunDir.of(tmp_path)
    evaluation = run_dir.for_evaluation("test-1")
    assert evaluation.best_checkpoint == run_dir.best_checkpoint
    assert evaluation.config_yaml == run_dir.config_yaml
    for of in ("result", "predictions", "ground_truth", "plots", "events", "data_report"):
        assert getattr(evaluation, of).is_relative_to(tmp_path / "eval" / "test-1"), of
