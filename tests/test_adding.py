"""The instructions of docs/adding.md work: the code blocks are written into a copy of the project, where the contract
tests run over everything that was added."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

from backbones.create import create_backbone
from pipelines.spec.model import BackboneSpec

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
HEADER = r"# (?P<path>\S+?)(?:, (?P<place>in|after) (?P<name>\w+))?"
BLOCKS = re.compile(rf"^```(?:python|toml)\n{HEADER}\n(?P<lines>.*?)^```", flags=re.MULTILINE | re.DOTALL)
"""The lines of a new file, rows for the table `in` which they belong, or a class that comes `after` another one."""

BACKBONES = ("resnet10t", "all_convolutional", "convnext_micro")
CONTRACTS = {
    "tests/backbones/test_contract.py": BACKBONES,
    "tests/backbones/test_contract_for_real.py": BACKBONES,
    "tests/backbones/test_equivariance.py": BACKBONES,
    "tests/pipelines/test_training_step.py": BACKBONES,
    "tests/backbones/weights_sources/test_contract.py": ("resnet10t",),
    "tests/heads/test_catalog.py": ("cosine", "density"),
    "tests/heads/test_contract.py": ("cosine", "density"),
    "tests/heads/test_graph_outputs.py": ("cosine", "density"),
    "tests/pipelines/tasks/test_contract.py": ("cosine", "density", "counting"),
    "tests/pipelines/tasks/test_training_step.py": ("cosine", "density"),
    "tests/pipelines/formats/test_catalog.py": ("TextBoxesLayer",),
    "tests/service/executors/test_contract.py": ("background",),
    "tests/service/jobs/test_kinds.py": ("inventory",),
    "tests/pipelines/data/loading/test_operations.py": ("InvertSpec",),
}
"""Contract tests, and the rows of the page for which each of them must pass."""


def _write(project: Path, block: re.Match[str]) -> None:
    """Apply one code block of the page to the project."""
    path, place, name, lines = project / block["path"], block["place"], block["name"], block["lines"]
    assert path.exists() == bool(place), path
    if not place:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines, encoding="utf-8")
        return
    is_import = re.compile(r"^from .*\n+", flags=re.MULTILINE)
    imports, lines = is_import.findall(lines), is_import.sub("", lines)
    text = path.read_text(encoding="utf-8")
    text = _with_rows(text, name, lines) if place == "in" else _with_class(text, name, lines)
    for line in imports:
        text = _with_import(text, line.strip())
    path.write_text(text, encoding="utf-8")


def _with_rows(text: str, table: str, rows: str) -> str:
    """Insert rows at the start of a table."""
    start = re.compile(rf"^{table}(?:: .*)? = .*[\(\[\{{]\n(?: *\[\n)?", flags=re.MULTILINE)
    text, num_tables = start.subn(lambda found: found.group() + rows, text)
    assert num_tables == 1, table
    return text


def _with_class(text: str, before: str, lines: str) -> str:
    """Insert a class after another one."""
    found = re.search(rf"^class {before}\b.*\n(?:(?: .*)?\n)*", text, flags=re.MULTILINE)
    assert found, before
    return f"{text[: found.end()]}{lines}\n\n{text[found.end() :]}"


def _with_import(text: str, line: str) -> str:
    """Insert an import before the first one of the same package that follows it in order, or after the last one."""
    package = line.partition(".")[0]
    known = list(re.finditer(rf"^{package}\..*\n", text, flags=re.MULTILINE))
    following = [found.start() for found in known if found.group() > line]
    position = following[0] if following else known[-1].end()
    return f"{text[:position]}{line}\n{text[position:]}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with everything that the page adds."""
    folder = tmp_path_factory.mktemp("project")
    for package in ("backbones", "heads", "pipelines", "service", "tests"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for block in BLOCKS.finditer(PAGE):
        _write(folder, block)
    _install(folder / "background")
    return folder


def _install(package: Path) -> None:
    """Write the metadata of a package into its folder, as an installation does."""
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = package / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, rows in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in rows.items()))]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_everything_added_as_documented_passes_the_contract_tests(project: Path) -> None:
    added = dict.fromkeys(name for names in CONTRACTS.values() for name in names)
    names = " or ".join([*added, "added_rows"])
    arguments = ["-p", "no:cacheprovider", "-vv", "-m", "", "-k", names, *CONTRACTS, "tests/added_rows.py"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *arguments],
        cwd=project, env={**os.environ, "PYTHONPATH": f"{project}{os.pathsep}{project / 'background'}"},
        capture_output=True, text=True, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    for path, rows in CONTRACTS.items():
        for name in rows:
            assert re.search(rf"{path}::\S+\[{name}[\]-].*PASSED", done.stdout), (name, path)


def test_designs_in_the_page_are_backbones() -> None:
    documents = re.findall(r"^```yaml\n(backbone:\n.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert documents
    for document in documents:
        spec = BackboneSpec.model_validate(yaml.safe_load(document)["backbone"])
        with torch.device("meta"):
            assert create_backbone(spec.network).feature_specs["c5"].stride == 32
