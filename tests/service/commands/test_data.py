"""`pyramidion data check | show | synth`; `show` replaces its process, so it needs one of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.command_runs import Finished, run_command

ROOT = Path(__file__).resolve().parents[3]

DOCUMENT = """
name: shapes
model:
  backbone: {name: resnet14_thin, weights: none}
  tasks:
    shapes: {head: fcos}
    scene: {head: multilabel}
    lookup: {head: embedding, of: objects}
data:
  root: shapes
  image_size: 96
  sources:
    drawn:
      images: images
      labels:
        - {format: coco, path: "annotations/instances_{split}.json", tasks: [shapes, lookup]}
        - {format: csv, path: annotations/image_labels.csv, split_column: split, column: scene, separator: " ",
           tasks: [scene]}
tracking: null
"""


def pyramidion(*arguments: str, cwd: Path) -> Finished:
    return run_command(*arguments, cwd=cwd, environment={"PYRAMIDION_DATA_ROOTS": None})


def process(*arguments: str, cwd: Path) -> Finished:
    command = [sys.executable, "-P", "-m", "service.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("PYRAMIDION_DATA_ROOTS", None)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with shapes.yaml, and the data that `data synth` wrote into shapes/."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "shapes.yaml").write_text(DOCUMENT)
    done = pyramidion("data", "synth", "shapes", "--train", "12", "--val", "3", "--test", "3", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "12 train, 3 val and 3 test images" in done.stdout
    return folder


def test_synth_rejects_a_folder_that_is_not_empty(folder: Path) -> None:
    done = pyramidion("data", "synth", "shapes", cwd=folder)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "error: folder: shapes is not an empty folder; choose a new folder\n"


def test_check_prints_a_report_and_writes_it(folder: Path) -> None:
    done = pyramidion("data", "check", "--config", "shapes.yaml", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 errors" in done.stdout
    report = json.loads((folder / "runs/shapes-data_report.json").read_text())
    assert set(report["tasks"]) == {"shapes", "scene", "lookup"}
    assert report["splits"]["train"]["listed"] == 12


def test_check_finds_the_data_by_data_root_or_by_absolute_override(folder: Path, tmp_path: Path) -> None:
    document = str(folder / "shapes.yaml")
    report = str(tmp_path / "report.json")
    lost = pyramidion("data", "check", "--config", document, "--report", report, cwd=tmp_path)
    assert lost.returncode == 78
    assert lost.stderr.startswith("error: data.root: no folder 'shapes' below")
    for place in ("--data-root", str(folder)), ("--data.root", str(folder / "shapes")):
        done = pyramidion("data", "check", "--config", document, "--report", report, *place, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


def test_check_exits_with_78_if_the_data_is_invalid(folder: Path, tmp_path: Path) -> None:
    """The listed images are missing, which is an error, because the override changes their folder for this run."""
    report = str(tmp_path / "report.json")
    wrong = ("--data.sources.drawn.images", "annotations")
    done = pyramidion("data", "check", "--config", "shapes.yaml", "--report", report, *wrong, cwd=folder)
    assert done.returncode == 78
    assert "000001.jpg" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["check", "show"])
def test_errors_of_the_document_are_one_line_per_field(command: str, folder: Path) -> None:
    wrong = ("--model.tasks.shapes.head", "fcoss", "--data.image_sizes", "96")
    run = process if command == "show" else pyramidion
    done = run("data", command, "--config", "shapes.yaml", *wrong, cwd=folder)
    assert (done.returncode, done.stdout) == (78, "")
    assert all(line.startswith("error: ") for line in done.stderr.splitlines())
    assert "model.tasks.shapes" in done.stderr
    assert "data.image_sizes" in done.stderr


@pytest.mark.integration
def test_show_writes_pictures_and_prints_their_paths(folder: Path) -> None:
    done = process("data", "show", "--config", "shapes.yaml", "--count", "2", "--out", "pictures", cwd=folder)
    assert done.returncode == 0, done.stderr
    paths = [folder / line for line in done.stdout.splitlines()]
    assert len(paths) == 2
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_checking_data_does_not_import_torch(folder: Path) -> None:
    code = (
        "import sys\nfrom service.cli import main\n"
        "code = main(['data', 'check', '--config', 'shapes.yaml', '--report', 'report.json'])\n"
        "sys.exit(code or len({'torch', 'torchvision', 'lightning', 'timm'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYRAMIDION_DATA_ROOTS": str(folder)}
    command = [sys.executable, "-P", "-c", code]
    assert subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=120).returncode == 0


def test_links_that_lead_out_are_refused_and_followed_on_request(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "data/shapes"
    shutil.copytree(folder / "shapes/annotations", linked / "annotations")
    (linked / "images").symlink_to(folder / "shapes/images")
    command = ("data", "check", "--config", str(folder / "shapes.yaml"), "--data-root", "data")
    refused = pyramidion(*command, cwd=tmp_path)
    assert refused.returncode == 78
    assert "'images' is a link that leads out of" in refused.stdout
    assert "add --follow-links to the command to follow it" in refused.stdout
    followed = pyramidion(*command, "--follow-links", cwd=tmp_path)
    assert followed.returncode == 0, followed.stdout
