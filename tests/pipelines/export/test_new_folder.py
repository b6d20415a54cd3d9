"""A folder gets its name when it is complete; what an interrupted export leaves is removed."""

import ctypes
import errno
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.export.new_folder import new_folder, replace_folder
from pipelines.run_folder import files
from pipelines.run_folder.exports_layout import ExportsDir

NAME = "openvino-fp32"


@pytest.fixture
def exports(tmp_path: Path) -> ExportsDir:
    return ExportsDir.of(tmp_path)


def names(exports: ExportsDir) -> list[str]:
    return sorted(path.name for path in exports.path.iterdir())


def export(exports: ExportsDir, text: str) -> None:
    with new_folder(exports) as folder:
        (folder / "model.json").write_text(text)
        replace_folder(exports.variant(NAME).path, folder)


def test_complete_folder_replaces_the_earlier_one(exports: ExportsDir) -> None:
    for text in ("1", "2"):
        export(exports, text)
        assert names(exports) == [NAME]
        assert exports.variant(NAME).description.read_text() == text


def test_folder_has_its_name_at_any_moment_while_it_is_replaced(exports: ExportsDir) -> None:
    export(exports, "0")
    is_done = threading.Event()
    found: list[bool] = []

    def look() -> None:
        while not is_done.is_set():
            found.append(exports.variant(NAME).path.is_dir())

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(20):
        export(exports, str(number))
    is_done.set()
    reader.join()
    assert all(found)


def test_folder_is_replaced_where_names_cannot_be_exchanged(
    exports: ExportsDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1

    monkeypatch.setattr(files, "_libc", SimpleNamespace(renameat2=refuse))
    for text in ("1", "2"):
        export(exports, text)
    assert names(exports) == [NAME]
    assert exports.variant(NAME).description.read_text() == "2"


def test_export_that_lost_its_name_to_none_gets_it_again(exports: ExportsDir) -> None:
    """A kill between two renames, on such a file system."""
    export(exports, "1")
    exports.variant(NAME).path.rename(exports.path / f".old-{NAME}")
    with new_folder(exports):
        pass
    assert names(exports) == [NAME]
    assert exports.variant(NAME).description.read_text() == "1"


def test_error_leaves_the_earlier_folder_and_nothing_else(exports: ExportsDir) -> None:
    export(exports, "1")
    with pytest.raises(ValueError, match="cannot be exported"), new_folder(exports):
        raise ValueError("it cannot be exported")
    assert names(exports) == [NAME]


def test_folder_of_a_killed_export_is_no_export_and_is_removed_by_the_next(exports: ExportsDir) -> None:
    for killed in (".new-1", f".old-{NAME}"):
        (exports.path / killed).mkdir(parents=True)
        (exports.path / killed / "model.json").write_text("{}")
    assert exports.variants() == []
    export(exports, "1")
    assert names(exports) == [NAME]
