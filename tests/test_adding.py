"""The instructions of docs/adding.md work: the code blocks are written into a copy of the project, where the contract
tests run over the added backbones."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from backbones.create import create_backbone
from pipelines.spec.model import BackboneSpec

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n# (\S+?)(?:, in (\w+))?\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
"""Path, name of the table to which the lines are added (empty for a new file), and the lines."""

ADDED = ("resnet10t", "all_convolutional", "convnext_micro")
CONTRACT = (
    "tests/backbones/test_contract.py",
    "tests/backbones/test_contract_for_real.py",
    "tests/backbones/test_equivariance.py",
    "tests/pipelines/test_training_step.py",
)


def _add(path: Path, table: str, lines: str) -> None:
    """Write a new file, or insert lines at the start of a table and their imports at the top of its file."""
    if not table:
        path.write_text(lines, encoding="utf-8")
        return
    is_import = re.compile(r"^from .*\n+", flags=re.MULTILINE)
    imports, entries = "".join(is_import.findall(lines)).strip(), is_import.sub("", lines)
    text = path.read_text(encoding="utf-8")
    text, num_tables = re.subn(rf"(?m)^({table}: .*= \{{\n)", lambda found: found.group(1) + entries, text)
    assert num_tables == 1, f"{path.name} has no table {table}"
    if imports:
        text = re.sub(r"(?m)^from backbones", f"{imports}\nfrom backbones", text, count=1)
    path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def copy_of_the_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for package in ("backbones", "heads", "pipelines", "tests"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for path, table, lines in BLOCKS:
        assert (folder / path).exists() == bool(table), path
        _add(folder / path, table, lines)
    return folder


@pytest.mark.timeout(600)
def test_backbones_added_as_documented_pass_the_contract_tests(copy_of_the_project: Path) -> None:
    arguments = ["-p", "no:cacheprovider", "-vv", "-m", "", "-k", " or ".join(ADDED), *CONTRACT]
    environment = {**os.environ, "PYTHONPATH": str(copy_of_the_project)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *arguments],
        cwd=copy_of_the_project, env=environment, capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    for name in ADDED:
        for path in CONTRACT:
            assert re.search(rf"{path}::\S+\[{name}[\]-].*PASSED", done.stdout), (name, path)


def test_designs_in_the_page_are_backbones() -> None:
    documents = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert documents
    for document in documents:
        spec = BackboneSpec.model_validate(yaml.safe_load(document)["backbone"])
        with torch.device("meta"):
            assert create_backbone(spec.network).feature_specs["c5"].stride == 32
