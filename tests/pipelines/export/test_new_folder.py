"""A folder gets its name when it is complete; what an interrupted export leaves is removed."""

from pathlib import Path

import pytest

from pipelines.base.errors import ConfigError
from pipelines.export.new_folder import new_folder, replace_folder
from pipelines.run_folder.exports_layout import ExportsDir


@pytest.fixture
def exports(tmp_path: Path) -> ExportsDir:
    return ExportsDir.of(tmp_path)


def names(exports: ExportsDir) -> list[str]:
    return sorted(path.name for path in exports.path.iterdir() if path.name != ".lock")


def test_complete_folder_replaces_the_earlier_one(exports: ExportsDir) -> None:
    target = exports.variant("openvino-fp32")
    for text in ("1", "2"):
        with new_folder(exports) as folder:
            (folder / "model.json").write_text(text)
            replace_folder(target.path, folder)
    assert names(exports) == ["openvino-fp32"]
    assert target.description.read_text() == "2"


def test_error_leaves_the_earlier_folder_and_nothing_else(exports: ExportsDir) -> None:
    exports.variant("openvino-fp32").path.mkdir(parents=True)
    with pytest.raises(ValueError, match="cannot be exported"), new_folder(exports):
        raise ValueError("it cannot be exported")
    assert names(exports) == ["openvino-fp32"]


def test_folder_of_a_killed_export_is_no_export_and_is_removed_by_the_next(exports: ExportsDir) -> None:
    killed = exports.path / ".new-1"
    killed.mkdir(parents=True)
    (killed / "model.json").write_text("{}")
    assert exports.variants() == []
    with new_folder(exports):
        pass
    assert names(exports) == []


def test_second_export_at_the_same_time_is_refused_and_disturbs_nothing(exports: ExportsDir) -> None:
    with new_folder(exports) as folder:
        refused = pytest.raises(ConfigError, match="is used by another export; start this one when that has ended")
        with refused, new_folder(exports):
            pass
        assert folder.is_dir()
