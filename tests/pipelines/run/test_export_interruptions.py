"""An export that is killed, or whose disk becomes full, leaves the earlier one of its name, and nothing that loads."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.data.dataset.index import build_index
from pipelines.export_cli import main
from pipelines.inference.export import export_model
from pipelines.model import build_model
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.layout import ExportedModelDir, RunDir
from pipelines.runtimes.variant import load_variant, read_variant
from pipelines.spec.job import JobSpec
from pipelines.spec.load import write_yaml
from tests.small_disk import fill, small_disk

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(1800)]

Command = Callable[[Path, str], list[str]]

ROOT = Path(__file__).parents[3]
FORMATS = {"onnx": "onnxruntime-fp32", "openvino": "openvino-fp32"}
MOMENTS = [("writing the graph", 0.0), ("writing the graph", 1.0), ("scoring val", 0.0), ("scoring val", 0.5)]
"""Words that an export prints, and the seconds from then to the kill."""


@pytest.fixture(scope="module")
def source(scene_job: JobSpec, demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was not trained; tests must not change it."""
    run_dir = RunDir.of(tmp_path_factory.mktemp("source") / "run")
    job = scene_job.model_copy(update={"tracking": None})
    index, _ = build_index(job, demo_root)
    export_model(build_model(job.model, index.categories), job, index.categories, run_dir.model)
    run_dir.config_yaml.write_text(write_yaml(job.model_dump(mode="json", exclude_unset=True)))
    run_dir.best_checkpoint.parent.mkdir()
    run_dir.best_checkpoint.touch()
    return run_dir.path


@pytest.fixture
def command(demo_root: Path) -> Command:
    """Return the words of an export of a run."""
    return lambda run, to: ["export", "--run-dir", str(run), "--to", to, "--data-root", str(demo_root.parent)]


def require_only(run: Path, name: str) -> None:
    """Require that a run has one export, which can be loaded."""
    exports = ExportsDir.of(run)
    assert [folder.path.name for folder in exports.variants()] == [name]
    assert load_variant(exports.variant(name).path, threads=1, weights=ExportedModelDir(RunDir.of(run).model).weights)


@pytest.mark.parametrize("to", FORMATS)
def test_killed_export_leaves_the_earlier_one_and_the_next_succeeds(
    to: str, source: Path, command: Command, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(source, tmp_path / "run"))
    name = FORMATS[to]
    folder = ExportsDir.of(run).variant(name)
    assert main(command(run, to)) == 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-m", "pipelines.export_cli", *command(run, to)]
    for text, delay_s in MOMENTS:
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
            assert process.stderr is not None
            assert any(text in line for line in process.stderr), "it has ended before"
            time.sleep(delay_s)
            process.kill()
        require_only(run, name)
    # At the moment at which the new folder gets the name.
    inode = folder.path.stat().st_ino
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment, cwd=ROOT) as process:
        while folder.path.stat().st_ino == inode:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
    require_only(run, name)
    assert main(command(run, to)) == 0
    require_only(run, name)
    assert sorted(path.name for path in folder.path.parent.iterdir()) == [name, "report.json"]


@pytest.fixture
def disk() -> Iterator[Path]:
    with small_disk("64m") as disk:
        yield disk


@pytest.mark.parametrize("to", FORMATS)
def test_full_disk_leaves_the_earlier_export_and_is_one_line(
    to: str, source: Path, command: Command, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(source, disk / "run"))
    name = FORMATS[to]
    assert main(command(run, to)) == 0
    size = read_variant(ExportsDir.of(run).variant(name).path).size_bytes
    # OpenVINO reads the graph of ONNX from the same disk.
    for free_bytes in (0, size // 2, *([size + size // 2] if to == "openvino" else [])):
        filler = fill(disk, free_bytes)
        capsys.readouterr()
        assert main(command(run, to)) == 1
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert line.endswith("No space left on device; free disk space or write elsewhere")
        filler.unlink()
        require_only(run, name)


def test_read_only_run_folder_is_one_line(
    source: Path, command: Command, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(source, disk / "run"))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert main(command(run, "onnx")) == 78
    assert f"error: --run-dir: {run} cannot be written (Read-only file system)" in capsys.readouterr().err
