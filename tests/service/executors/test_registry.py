"""Executors are chosen by name, from entry points of any package."""

import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from pipelines.base.errors import ConfigError
from service.child_process import child_environment
from service.executors.local import LocalExecutor
from service.executors.registry import (
    BUILT_IN,
    GROUP,
    capacity_of_service,
    check_executor,
    create_executor,
    registered_executors,
)
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
PLUG_IN = textwrap.dedent("""
    from service.executors.base import RequirementsNotMet
    from service.executors.local import LocalExecutor

    class CountingExecutor(LocalExecutor):
        def capacity(self):
            return {**super().capacity(), "nodes": 3}

    class RemoteExecutor(CountingExecutor):
        is_bound_to_host = False

    class PickyExecutor(LocalExecutor):
        @classmethod
        def check_requirements(cls, settings):
            raise RequirementsNotMet("sbatch is missing; install Slurm's client")
""")


@pytest.fixture
def plug_in(tmp_path: Path) -> Path:
    """A folder with a package that registers executors, as installed by pip."""
    folder = tmp_path / "site"
    metadata = folder / "plug_in-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "plug_in.py").write_text(PLUG_IN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1.0\n")
    lines = [
        f"[{GROUP}]",
        "counting = plug_in:CountingExecutor",
        "picky = plug_in:PickyExecutor",
        "remote = plug_in:RemoteExecutor",
    ]
    lines += ["broken = plug_in.nowhere:Executor", "local = plug_in:PickyExecutor"]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def installed(plug_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(plug_in)


def settings_of(tmp_path: Path, executor: str) -> Settings:
    return Settings(root=tmp_path / "root", executor=executor, cpus=2, gpus=0)


def test_local_is_the_default(tmp_path: Path) -> None:
    assert Settings(root=tmp_path).executor == "local"
    assert isinstance(create_executor(Settings(root=tmp_path, cpus=1, gpus=0)), LocalExecutor)


def test_metadata_of_this_package_lists_the_built_in_executors() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][GROUP] == BUILT_IN


def test_executor_of_another_package_is_chosen_by_name(installed: None, tmp_path: Path) -> None:
    executor = create_executor(settings_of(tmp_path, "counting"))
    assert type(executor).__name__ == "CountingExecutor"
    assert executor.capacity() == {"cpus": 2, "gpus": 0, "nodes": 3}


@pytest.mark.parametrize("executor", ["counting", "remote"])
def test_capacity_of_the_service_has_one_node_without_a_shared_disk(
    installed: None, tmp_path: Path, executor: str
) -> None:
    settings = settings_of(tmp_path, executor)
    assert capacity_of_service(settings)["nodes"] == 3
    without_disk = settings.model_copy(update={"run_storage": "s3://bucket/runs"})
    assert capacity_of_service(without_disk)["nodes"] == 1


def test_built_in_name_cannot_be_replaced(installed: None, tmp_path: Path) -> None:
    assert list(registered_executors()) == ["broken", "counting", "local", "picky", "ray", "remote", "slurm"]
    check_executor(settings_of(tmp_path, "local"))
    assert type(create_executor(settings_of(tmp_path, "local"))) is LocalExecutor


def test_unknown_name_is_rejected_with_the_known_names(installed: None, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"PYRAMIDION_EXECUTOR: unknown executor 'cluster'; .* counting, local, picky"
    ):
        create_executor(settings_of(tmp_path, "cluster"))


def test_executor_that_cannot_be_imported_is_reported(installed: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'broken' \(plug_in\.nowhere:Executor\) cannot be loaded"):
        check_executor(settings_of(tmp_path, "broken"))


def serve(plug_in: Path, root: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = child_environment({**os.environ, "PYTHONPATH": str(plug_in), **variables})
    command = [sys.executable, "-P", "-m", "service.cli", "serve", "--root", str(root), "--port", "0", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_serve_exits_before_anything_starts_if_requirements_are_not_met(plug_in: Path, tmp_path: Path) -> None:
    done = serve(plug_in, tmp_path / "root", "--executor", "picky")
    assert done.returncode == 78
    assert done.stderr == (
        "error: --executor or PYRAMIDION_EXECUTOR: the executor 'picky' cannot be used here: sbatch is missing; "
        "install Slurm's client\n"
    )
    assert not (tmp_path / "root" / "service.db").exists()


def test_serve_rejects_an_unknown_executor(plug_in: Path, tmp_path: Path) -> None:
    done = serve(plug_in, tmp_path / "root", PYRAMIDION_EXECUTOR="cluster")
    assert done.returncode == 78
    assert "unknown executor 'cluster'; choose one of broken, counting, local, picky" in done.stderr
    assert not (tmp_path / "root").exists()
