"""The house rules that no other tool checks: layout, homes of heavy libraries, pinned versions."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("backbones", "heads", "pipelines", "service")
TOP_LEVEL = {
    "backbones", "heads", "pipelines", "service", "tests", "docs",
    "pyproject.toml", "README.md", "LICENSE", "Makefile", "CHANGELOG.md", "constraints.txt",
}  # fmt: skip
MAX_LINES = 300
HOMES = {
    "timm": ("backbones",),
    "torchvision.models": ("backbones",),
    "pytorch_metric_learning": ("heads",),
    "sklearn": ("pipelines/tasks/embedding",),
    "torchjd": ("pipelines/training",),
    "torchmetrics": ("pipelines/tasks/classification",),
    "lightning": ("pipelines",),
    "mlflow": ("pipelines/tracking",),
    "faster_coco_eval": ("pipelines/tasks/detection",),
    "matplotlib": ("pipelines",),
    "jsonargparse": ("pipelines",),
    "sqlalchemy": ("service/store", "service/migrations"),
    "alembic": ("service/store", "service/migrations"),
    "fastapi": ("service/api", "service/rest"),
    "uvicorn": ("service/api", "service/predictor"),
    "prometheus_client": ("service/api",),
    "pydantic_settings": ("service/settings",),
    "httpx2": ("service/api/predictor_link.py", "service/client"),
    "pycocotools": (),
}
MACHINE = re.compile(
    r"(?<![\w.~$}])/(?:work|home|root|mnt|workspace|Users)/"
    r"|\b(?:pypi|pythonhosted|artifactory)[.]\w|download[.]pytorch[.]org/whl"
    r"|--(?:extra-)?index-url|PIP_(?:EXTRA_)?INDEX_URL"
)
"""A path of one machine, or where packages are had from: the project has neither."""


def tracked_files() -> list[Path]:
    """Files that git knows, or would take; the test skips where there is no git checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [Path(line) for line in listing.splitlines() if (ROOT / line).is_file()]


def python_files() -> list[Path]:
    return [path.relative_to(ROOT) for name in (*PACKAGES, "tests") for path in sorted((ROOT / name).rglob("*.py"))]


def imported_names(path: Path) -> Iterator[str]:
    """Full names of what a file imports, inside functions too."""
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return project


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return {normal(name): version for name, _, version in (line.partition("==") for line in lines) if version}


def test_the_top_level_is_fixed() -> None:
    assert {path.parts[0] for path in tracked_files() if not path.parts[0].startswith(".")} <= TOP_LEVEL


def test_everything_at_the_top_level_is_there() -> None:
    assert [name for name in sorted(TOP_LEVEL) if not (ROOT / name).exists()] == []


def test_no_init_file_imports_anything() -> None:
    inits = [path for path in python_files() if path.name == "__init__.py"]
    assert {path.parts[0] for path in inits} == set(PACKAGES), "no __init__.py below tests: it would shadow a package"
    assert [str(path) for path in inits if list(imported_names(path))] == []


def test_no_file_names_a_machines_path_or_a_package_host() -> None:
    found = [
        f"{path}:{number}: {hit.group()}"
        for path in tracked_files()
        for number, line in enumerate((ROOT / path).read_text("utf-8", errors="replace").splitlines(), start=1)
        if (hit := MACHINE.search(line))
    ]
    assert found == [], (
        "name a data root or a variable of the environment, and leave the package host to pip's settings"
    )


@pytest.mark.parametrize(
    "parts", [(" /", "work/shared"), ("'/", "home/me"), ("https://", "pypi", ".org/simple"), ("--", "index-url x")]
)
def test_what_belongs_to_a_machine_is_known(parts: tuple[str, ...]) -> None:
    assert MACHINE.search("".join(parts))


def test_files_hold_one_idea() -> None:
    lengths = {str(path): len((ROOT / path).read_text("utf-8").splitlines()) for path in python_files()}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_names_say_what_a_file_is_about() -> None:
    vague = {"utils", "helpers", "manager", "common", "cfg", "tmp", "misc"}
    assert [str(path) for path in python_files() if vague & set(path.with_suffix("").parts)] == []


@pytest.mark.parametrize("library", HOMES)
def test_heavy_libraries_have_one_home(library: str) -> None:
    strangers = [
        str(path)
        for path in python_files()
        if path.parts[0] in PACKAGES
        and any(f"{name}.".startswith(f"{library}.") for name in imported_names(path))
        and not any(str(path).startswith(home) for home in HOMES[library])
    ]
    assert strangers == []


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert [
        line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][0-9A-Za-z.]*", line)
    ] == []


def test_every_dependency_is_pinned() -> None:
    wanted = [*project()["dependencies"], *project()["optional-dependencies"]["dev"]]
    names = {normal(re.split(r"[\[<>=!~ ;]", requirement, maxsplit=1)[0]) for requirement in wanted}
    assert sorted(names - set(pins())) == []


def test_every_import_is_a_declared_dependency() -> None:
    """Not one that only comes along with another, and may stop to."""
    declared = {
        normal(re.split(r"[\[<>=!~ ;]", requirement, maxsplit=1)[0]) for requirement in project()["dependencies"]
    }
    distributions = metadata.packages_distributions()
    strange = {
        f"{path}: {name}"
        for path in python_files()
        if path.parts[0] in PACKAGES
        for name in {full.partition(".")[0] for full in imported_names(path)} - set(PACKAGES) - sys.stdlib_module_names
        if declared.isdisjoint(normal(distribution) for distribution in distributions.get(name, []))
    }
    assert strange == set()


def test_pins_are_within_the_declared_ranges() -> None:
    from packaging.requirements import Requirement

    wanted = map(Requirement, [*project()["dependencies"], *project()["optional-dependencies"]["dev"]])
    assert [str(need) for need in wanted if pins()[normal(need.name)] not in need.specifier] == []


def test_every_decision_is_numbered_once_and_listed() -> None:
    decisions = sorted(path.name for path in (ROOT / "docs/adr").glob("*.md") if path.name != "README.md")
    assert [name[:4] for name in decisions] == [f"{number:04d}" for number in range(1, len(decisions) + 1)]
    listed = (ROOT / "docs/adr/README.md").read_text("utf-8")
    assert [name for name in decisions if f"({name})" not in listed] == []
