"""A wheel contains the four packages with their data and the command, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("backbones", "heads", "pipelines", "service")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return zipfile.ZipFile(next(folder.glob("pyramidion-*.whl")))


def test_wheel_contains_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    written = {name for name in wheel.namelist() if ".dist-info/" not in name}
    source = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert written == source


def test_wheel_contains_recipes_and_names_of_backbones(wheel: zipfile.ZipFile) -> None:
    bccd = (
        "bccd",
        *(f"bccd_{name}" for name in ("classification", "embedding", "faster_rcnn", "multitask", "pretrained")),
    )
    names = ("demo", *bccd)
    recipes = {f"pipelines/recipes/{name}.yaml" for name in names}
    assert recipes | {"backbones/catalog/names.json"} <= set(wheel.namelist())


def test_wheel_installs_the_command_and_the_license(wheel: zipfile.ZipFile) -> None:
    [entry_points] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "pyramidion = service.cli:main" in wheel.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())
