"""The dependencies: their homes, and their pinned versions."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.source_files import PACKAGES, ROOT, imported_names, nodes, python_files

HOMES = {
    "timm": ("backbones",),
    "torchvision.models": ("backbones",),
    "pytorch_metric_learning": ("heads",),
    "sklearn": ("pipelines/tasks/embedding",),
    "torchjd": ("pipelines/training",),
    "captum": ("pipelines/explanations",),
    "torchmetrics": ("pipelines/tasks/classification",),
    "lightning": ("pipelines",),
    "mlflow": ("pipelines/tracking",),
    "hotcoco": ("pipelines/tasks/detection/scoring",),
    "matplotlib": ("pipelines",),
    "jsonargparse": ("pipelines",),
    "sqlalchemy": ("service/store", "service/migrations"),
    "alembic": ("service/store", "service/migrations"),
    "psycopg": ("service/store",),
    "fastapi": ("service/api", "service/rest", "service/web"),
    "jinja2": ("service/web",),
    "uvicorn": ("service/api", "service/predictor"),
    "prometheus_client": ("service/api",),
    "pydantic_settings": ("service/settings", "service/commands/serve.py"),
    "httpx2": ("service/client",),
    "aiohttp": ("service/api/predictor_connection.py",),
    "psutil": ("service/executors", "pipelines/tracking"),
    "pycocotools": (),
    "simplejpeg": ("pipelines/data/decoding",),
    "boto3": ("service/storage",),
    "botocore": ("service/storage",),
    "ray": ("service/executors/ray",),
    "optuna": ("service/sweeps/study.py",),
}


def project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return project


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(*extras: str) -> list[str]:
    """Return the requirements of the project, or of some of its extras."""
    optional = project()["optional-dependencies"]
    return [line for extra in extras for line in optional[extra]] if extras else list(project()["dependencies"])


def requirement_name(requirement: str) -> str:
    return normal(re.split(r"[\[<>=!~ ;]", requirement, maxsplit=1)[0])


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return {normal(name): version for name, _, version in (line.partition("==") for line in lines) if version}


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
    names = {requirement_name(requirement) for requirement in [*required(), *required("dev")]}
    assert sorted(names - set(pins())) == []


def test_every_import_is_a_declared_dependency() -> None:
    """Not one that only comes along with another, and may stop to."""
    declared = {
        requirement_name(requirement) for requirement in [*required(), *required("postgres", "s3", "export", "ray")]
    }
    distributions = metadata.packages_distributions()
    strange = {
        f"{path}: {name}"
        for path in python_files()
        if path.parts[0] in PACKAGES
        for name in {full.partition(".")[0] for full in imported_names(path)} - set(PACKAGES) - sys.stdlib_module_names
        # A distribution that is not installed here has the name of its package, as most have.
        if declared.isdisjoint(normal(distribution) for distribution in distributions.get(name, [name]))
    }
    assert strange == set()


def test_tests_install_every_extra_of_the_product() -> None:
    assert set(required("postgres", "s3", "weights", "export", "ray")) <= set(required("dev"))


def test_pins_are_within_the_declared_ranges() -> None:
    from packaging.requirements import Requirement

    wanted = map(Requirement, [*required(), *required("dev")])
    assert [str(need) for need in wanted if pins()[normal(need.name)] not in need.specifier] == []


@cache
def defined_names(path: Path) -> set[str]:
    """Return the names that a module has by its text."""
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return names


def is_there(name: str) -> bool:
    """Return whether this project has a module, or a name in a module."""
    path = Path(name.replace(".", "/"))
    module = path.parent.with_suffix(".py")
    return (
        (ROOT / path).is_dir()
        or (ROOT / path.with_suffix(".py")).is_file()
        or ((ROOT / module).is_file() and path.name in defined_names(module))
    )


def missing_names(path: Path) -> list[str]:
    """Return what a file imports, inside functions too, and what this project does not have."""
    own = [name for name in imported_names(path) if name.partition(".")[0] in (*PACKAGES, "tests")]
    return [name for name in own if not is_there(name)]


def test_what_benchmarks_import_is_there() -> None:
    """Neither mypy nor the default suite would find the old name of something that has moved."""
    benchmarks = [path for path in python_files() if path.parts[:2] == ("tests", "bench")]
    assert {str(path): missing for path in benchmarks if (missing := missing_names(path))} == {}


def test_an_import_that_is_not_there_is_found(tmp_path: Path) -> None:
    code = tmp_path / "bench.py"
    code.write_text(
        "import tests.nothing\n"
        "def run():\n"
        "    from pipelines.export.report import nothing, write_report\n"
        "    from pipelines.export import report\n"
    )
    assert missing_names(code) == ["tests.nothing", "pipelines.export.report.nothing"]
