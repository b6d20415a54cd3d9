"""The dependencies: their homes, and their pinned versions."""

import re
import sys
import tomllib
from importlib import metadata
from typing import Any

import pytest

from tests.source_files import PACKAGES, ROOT, imported_names, python_files

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
