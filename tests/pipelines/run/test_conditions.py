"""`test --corruptions --slices`: the same numbers on one, two and three ranks, in the result, the tables and charts."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.data.loading.corruptions import CORRUPTIONS
from pipelines.preflight import Inputs
from pipelines.run.fit import FitWorkflow
from pipelines.run.lightning_cli import JobCLI
from pipelines.run.workflow import Parts
from pipelines.run_folder.layout import RUN_DIR_VARIABLE, RunDir
from pipelines.run_folder.tracking_files import TrackingState
from pipelines.spec.load import apply_override, read_yaml, validate_document, write_yaml
from pipelines.spec.result import RunResult
from pipelines.tracking.mlflow_store import Store, connect, find_run

Command = Callable[..., int]


@pytest.fixture(scope="module")
def table(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that describes all test images but the last one."""
    names = sorted(path.relative_to(demo_root).as_posix() for path in (demo_root / "images/test").iterdir())
    path = tmp_path_factory.mktemp("tables") / "images.csv"
    rows = "".join(f"{name},{'left' if n < 3 else 'right'}\n" for n, name in enumerate(names[:-1]))
    path.write_text("file_name,camera\n" + rows)
    return path


def score(run_dir: RunDir, *words: str | Path) -> tuple[Path, str]:
    """Run `test` in processes of its own, as a shell would; return the folder of its result, and what it prints."""
    before = set((run_dir.path / "eval").glob("*"))
    command = [sys.executable, "-m", "pipelines.cli", "test", "--run-dir", run_dir.path, *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONSAFEPATH": "1"}
    environment.pop(RUN_DIR_VARIABLE, None)
    done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (written,) = set((run_dir.path / "eval").glob("*")) - before
    return written, done.stdout


def conditions(folder: Path) -> dict[str, Any]:
    result = json.loads((folder / "result.json").read_text())
    RunResult.model_validate(result)
    return {name: result[name] for name in ("split", "summary", "tasks", "corruptions", "slices")}


@pytest.mark.integration
def test_any_number_of_ranks_gives_the_same_analyses_corruptions_and_slices(finished: RunDir, table: Path) -> None:
    words = ("--corruptions", "--slices", table, "--slice-by", "camera", "--unlisted", "slice")
    done = [score(finished, *words, "--trainer.devices", str(ranks)) for ranks in (1, 2, 3)]
    folder, output = done[0]
    alone, *others = (conditions(written) for written, _ in done)
    # Batches of other sizes round differently, which moves a score by 1e-7 and no number of a ranking.
    for other in others:
        assert flat(other) == pytest.approx(flat(alone), abs=1e-6)
    rows = [(row["corruption"], row["strength"]) for row in alone["corruptions"]]
    assert rows == [(name, strength) for name in CORRUPTIONS for strength in (1, 2, 3)]
    assert all(row["summary"].keys() == alone["summary"].keys() for row in alone["corruptions"])
    assert all(row["summary"] != alone["summary"] for row in alone["corruptions"] if row["strength"] == 3)
    (column,) = alone["slices"]
    assert [(row["value"], row["num_images"]) for row in column["values"]] == [
        ("(no value)", 1),
        ("left", 3),
        ("right", 2),
    ]
    assert "shapes on corrupted images of test: AP" in output
    assert "shapes on test by camera" in output
    plots = {path.name for path in (folder / "plots").iterdir()}
    assert {"shapes.corruptions.png", "shapes.slices.png", "identity.corruptions.png", "shapes.worst.png"} <= plots
    assert {path.name for path in (folder / "worst").iterdir()} == {"shapes.json", "shapes.coco.json"}


def flat(node: Any, path: str = "") -> dict[str, float | str]:
    """Return the leaves of nested JSON by their paths, without undefined numbers."""
    children = dict(enumerate(node)) if isinstance(node, list) else node
    if isinstance(children, dict):
        return {key: leaf for name, child in children.items() for key, leaf in flat(child, f"{path}/{name}").items()}
    return {} if node is None else {path: node}


@pytest.mark.integration
def test_document_asks_for_corruptions_and_slices_at_the_end_of_training(
    command: Command, small: dict[str, Any], demo_root: Path, tmp_path: Path
) -> None:
    # The demo data has a table with the scenes of its images, of which some are not given.
    slices = {"path": "annotations/image_labels.csv", "columns": ["split", "scene"], "unlisted": "slice"}
    document = apply_override(small, "evaluation", {"corruptions": True, "slices": slices})
    (tmp_path / "job.yaml").write_text(write_yaml(document))
    run_dir = RunDir.of(tmp_path / "run")
    words = ("--config", tmp_path / "job.yaml", "--data-root", demo_root.parent, "--run-dir", run_dir.path)
    assert command("fit", *words) == 0
    trained = conditions(run_dir.path)
    assert len(trained["corruptions"]) == 3 * len(CORRUPTIONS)
    split, scene = trained["slices"]
    assert (split["column"], scene["column"]) == ("split", "scene")
    (whole,) = split["values"]
    shapes = {name: whole["tasks"]["shapes"]["numbers"][name] for name in ("AP", "AP50")}
    assert shapes == {name: trained["summary"][f"test/shapes/{name}"] for name in shapes}
    assert len(scene["values"]) > 1
    assert {"shapes.corruptions.png", "shapes.slices.png"} <= {path.name for path in run_dir.plots.iterdir()}


def test_table_without_some_images_stops_before_scoring(
    command: Command, finished: RunDir, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set((finished.path / "eval").glob("*"))
    assert command("test", "--run-dir", finished.path, "--slices", table, "--slice-by", "camera") == 78
    assert "1 image has no row or an empty cell, such as 'images/test/" in capsys.readouterr().err
    assert set((finished.path / "eval").glob("*")) == before


def test_table_without_columns_is_refused(
    command: Command, finished: RunDir, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("test", "--run-dir", finished.path, "--slices", table) == 78
    assert "--slice-by: missing; pass --slices FILE and --slice-by COLUMN together" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("fit", "--run-dir", "new"), ("check",)])
def test_missing_table_of_the_document_stops_before_training(
    command: Command, command_line: None, small_document: dict[str, Any], demo_root: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...],
) -> None:  # fmt: skip
    slices = {"path": "cameras.csv", "columns": ["camera"]}
    (tmp_path / "job.yaml").write_text(write_yaml(apply_override(small_document, "evaluation.slices", slices)))
    assert command(*words, "--config", tmp_path / "job.yaml", "--data-root", demo_root.parent) == 78
    captured = capsys.readouterr()
    assert "evaluation.slices: " in captured.err
    assert "cameras.csv: cannot be read (No such file or directory); name a CSV file" in captured.err


@pytest.mark.integration
def test_table_that_is_deleted_during_training_is_not_missed(
    command_line: None, small_document: dict[str, Any], demo_root: Path, table: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copy(table, demo_root / f"{tmp_path.name}.csv"))
    slices = {"path": copy.name, "columns": ["camera"], "unlisted": "slice"}
    document = apply_override(small_document, "evaluation.slices", slices)

    class Deleting(FitWorkflow):
        def build(self) -> Parts:
            copy.unlink()
            return super().build()

    run_dir = RunDir.of(tmp_path / "run")
    JobCLI(Deleting(document, Inputs(demo_root, "none"), run_dir), validate_document(document))
    (column,) = conditions(run_dir.path)["slices"]
    assert [row["value"] for row in column["values"]] == ["(no value)", "left", "right"]


def test_slices_are_in_the_result_and_in_the_mlflow_run_of_the_training(
    command: Command, finished: RunDir, table: Path, store: Store, mlflow_runs_root: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shutil.copytree(finished.path, tmp_path / "run")
    run_dir = RunDir.of(tmp_path / "run")
    document = read_yaml(run_dir.config_yaml.read_text(), "config.yaml")
    run_dir.config_yaml.write_text(write_yaml(apply_override(document, "tracking", {"experiment": "slices"})))
    client = connect(store)
    run_id = find_run(client, store, "slices", "run", ("key", "value"))
    TrackingState(tracking_uri=store.label, run_id=run_id).write(run_dir.tracking_state)
    monkeypatch.setenv("PYRAMIDION_RUNS_ROOT", str(mlflow_runs_root))
    words = ("--slices", table, "--slice-by", "camera", "--unlisted", "slice")
    before = set(run_dir.evaluations.glob("*"))
    assert command("test", "--run-dir", run_dir.path, *words) == 0
    (written,) = set(run_dir.evaluations.glob("*")) - before
    (column,) = conditions(written)["slices"]
    metrics = client.get_run(run_id).data.metrics
    for row in column["values"]:
        value = row["value"].replace("(", "_").replace(")", "_")
        expected = row["tasks"]["scene"]["numbers"]["mAP"]
        assert metrics.get(f"test/scene/slices/camera/{value}/mAP") == pytest.approx(expected)
    logged = {file.path for file in client.list_artifacts(run_id, f"eval/{written.name}")}
    assert logged == {f"eval/{written.name}/plots", f"eval/{written.name}/result.json"}
