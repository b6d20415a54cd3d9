"""`pyramidion models`, with a service in this process."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pipelines.base.errors import ConfigError
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry
from service.client.client import URL_VARIABLE
from service.client.errors import Conflict, ServiceError
from service.commands.registry import MODELS
from service.settings import Settings
from tests.service.api.servers import serving

NAME = "screws of the shop"


@pytest.fixture(scope="module")
def url(mlflow_runs_root: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        with serving(Settings(root=mlflow_runs_root)) as client:
            yield str(client.base_url)


@pytest.fixture(scope="module", autouse=True)
def versions(
    register: Callable[[Path, str], ModelVersion], small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> list[ModelVersion]:
    """Two versions of one model whose documents differ in the seed."""
    folders = []
    for seed in (1, 2):
        folders.append(tmp_path_factory.mktemp("exported"))
        described = {"job": {**small, "seed_everything": seed}, "categories": {}}
        (folders[-1] / "model.json").write_text(json.dumps(described))
    return [register(folder, NAME) for folder in folders]


@pytest.fixture
def run(url: str) -> Callable[..., Result]:
    """Run a command; its errors are raised."""
    return lambda *arguments, **options: CliRunner().invoke(
        MODELS, arguments, env={URL_VARIABLE: url}, catch_exceptions=False, standalone_mode=False, **options
    )


def test_models_and_versions_are_listed(run: Callable[..., Result]) -> None:
    assert any(line.split() == [*NAME.split(), "2", "candidate:", "2"] for line in run("list").stdout.splitlines())
    assert NAME in {model["name"] for model in json.loads(run("list", "--json").stdout)["models"]}
    assert "AP50 0.5" in run("show", NAME).stdout
    details = json.loads(run("show", NAME, "candidate", "--json").stdout)
    assert (details["version"], details["document"]["seed_everything"]) == (2, 2)
    assert "seed_everything: 1" in run("show", NAME, "1").stdout


def test_versions_are_compared(run: Callable[..., Result]) -> None:
    text = run("compare", NAME, "1", "candidate").stdout
    rows = [line.split() for line in text.splitlines()]
    assert ["val/shapes/AP50", "0.5", "0.5", "+0"] in rows
    assert ["seed_everything", "1", "2"] in rows
    assert json.loads(run("compare", NAME, "1", "2", "--json").stdout)["is_comparable"]


def test_archive_is_downloaded(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service_registry: Registry
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("download", NAME, "2")
    assert done.stdout.strip() == "screws_of_the_shop-2.tar"
    version = service_registry.version(NAME, 2)
    assert version is not None
    assert version.archive is not None
    content = (tmp_path / done.stdout.strip()).read_bytes()
    assert hashlib.sha256(content).hexdigest() == version.archive.sha256
    with pytest.raises(ConfigError, match="VERSION: got 'stage'; write the number of a version, or an alias"):
        run("download", NAME, "stage")
    with pytest.raises(ServiceError, match="cannot be written"):
        run("download", NAME, "2", "--output", "/proc/none/model.tar")


def test_version_is_promoted_and_deleted(run: Callable[..., Result], service_registry: Registry) -> None:
    assert run("promote", NAME, "1").stderr == f"{NAME}@champion: version 1\n"
    done = run("promote", NAME, "candidate", "--reason", "fewer misses")
    assert done.stderr == f"{NAME}@champion: version 1 -> version 2\n"
    assert "fewer misses" in run("show", NAME).stdout
    with pytest.raises(ConfigError, match="no such version"):
        run("promote", NAME, "9")
    with pytest.raises(Conflict, match="these aliases point to version 2"):
        run("delete", NAME, "champion", "--yes")
    with pytest.raises(click.Abort):
        run("delete", NAME, "1", input="n\n")
    assert run("delete", NAME, "1", input="y\n").stderr.endswith(f"deleted {NAME}, version 1\n")
    assert [version.version for version in service_registry.versions(NAME)] == [2]
    service_registry.remove_alias(NAME, "champion")
    run("delete", NAME, "--yes")
    assert service_registry.aliases(NAME) is None
