"""Files get their name last, when their content is on the disk, so that a loss of power loses none."""

import ast
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.data.dataset.new_folder import new_folder
from pipelines.run_folder.files import create_folder, rename_synced, write_atomic

ROOT = Path(__file__).parents[3]
PACKAGES = ("backbones", "heads", "pipelines", "service")
HOME = ROOT / "pipelines/run_folder/files.py"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Names that are synced, in order, each with whether the file `target` existed at that time."""
    calls: list[tuple[str, bool]] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        calls.append((path.name, (path.parent / "target").exists() or (path / "target").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    return calls


def test_content_is_synced_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, synced: list[tuple[str, bool]]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write_atomic(folder / "target", "x")
    (temporary, existed), *rest = synced
    assert temporary.startswith(".target.")
    assert not existed
    assert rest == [("run", True)]
    assert (folder / "target").read_text() == "x"


def test_every_file_of_a_renamed_folder_is_synced(tmp_path: Path, synced: list[tuple[str, bool]]) -> None:
    (tmp_path / "from/model/deep").mkdir(parents=True)
    (tmp_path / "to").mkdir()
    for name in ("a", "deep/b"):
        (tmp_path / "from/model" / name).touch()
    (tmp_path / "from/model/link").symlink_to("a")
    rename_synced(tmp_path / "from/model", tmp_path / "to/target")
    assert [name for name, _ in synced] == ["a", "model", "b", "deep", "to", "from"]
    assert [existed for _, existed in synced[:4]] == [False] * 4
    assert synced[4] == ("to", True)


def test_new_folders_are_synced_too(tmp_path: Path, synced: list[tuple[str, bool]]) -> None:
    create_folder(tmp_path / "a/b")
    assert sorted(name for name, _ in synced) == sorted(["a", tmp_path.name])
    synced.clear()
    create_folder(tmp_path / "a/b")
    assert synced == []


def test_files_of_a_new_data_set_are_synced(tmp_path: Path, synced: list[tuple[str, bool]]) -> None:
    with new_folder(tmp_path / "set", "--out", last="target") as unfinished:
        (unfinished / "images").mkdir()
        (unfinished / "images/a.png").touch()
        (unfinished / "target").touch()
    assert ("a.png", False) in synced
    assert [name for name, _ in synced[-3:]] == ["target", "set", ".unfinished"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_file_system_that_cannot_sync_folders_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", refusing(number))
    write_atomic(tmp_path / "target", "x")
    assert (tmp_path / "target").read_text() == "x"


def test_failed_sync_of_a_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(OSError, match="target"):
        write_atomic(tmp_path / "target", "x")


def refusing(number: int) -> Callable[[int], None]:
    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_dir():
            raise OSError(number, os.strerror(number))

    return fsync


def renames(tree: ast.AST) -> list[int]:
    """Return the lines that rename a file; replace() of strings has two arguments, and that of dates has keywords."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (node.func.attr in ("rename", "renames") or (node.func.attr == "replace" and len(node.args) == 1))
        and not node.keywords
    ]


def test_no_other_file_renames_files() -> None:
    """Except copies of weights, which are verified by their checksum on every use, and temporary folders."""
    assert renames(ast.parse("path.replace(a)\nos.rename(a, b)\n'a'.replace('b', 'c')\nreplace(spec, x=1)")) == [1, 2]
    homes = {HOME, ROOT / "pipelines/base/process_folder.py", *(ROOT / "backbones/weights_sources").iterdir()}
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path not in homes]
    found = {str(path.relative_to(ROOT)): renames(ast.parse(path.read_text("utf-8"))) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}, f"use rename_synced of {HOME.name}"
