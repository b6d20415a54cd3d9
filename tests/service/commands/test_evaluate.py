"""`pyramidion eval`: a table, JSON, refusals, and no torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.command_runs import Finished, run_command

BOX = {"image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20]}
TRUTH = {"images": [{"id": 1}], "categories": [{"id": 3, "name": "cell"}], "annotations": [{"id": 1, **BOX}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "A.json").write_text(json.dumps(TRUTH))
    (tmp_path / "P.json").write_text(json.dumps([{**BOX, "score": 0.75}]))
    return tmp_path


def evaluate(*arguments: str, cwd: Path) -> Finished:
    command = ("eval", "--predictions", "P.json", "--annotations", "A.json", *arguments)
    return run_command(*command, cwd=cwd, environment={})


def test_json_has_the_names_of_result_json(folder: Path) -> None:
    done = evaluate("--json", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["coco"]["AP"] == pytest.approx(1.0)
    assert (result["coco"]["APl"], result["num_images"]) == (None, 1)
    assert result["confusion"]["counts"] == [[1, 0], [0, 0]]


def test_tables_show_the_numbers_and_the_classes(folder: Path) -> None:
    done = evaluate(cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "P.json on A.json: 1 image" in done.stdout
    assert [line.split() for line in done.stdout.splitlines() if "cell" in line] == [
        ["cell", "1", "1.000", "1.000", "1.000", "0.375"]
    ]


def test_files_that_do_not_fit_are_refused_with_the_reason(folder: Path) -> None:
    (folder / "P.json").write_text(json.dumps([{**BOX, "score": 0.75, "image_id": 8}]))
    done = evaluate(cwd=folder)
    assert done.returncode == 78
    assert "error: P.json: elements[0].image_id is 8, which is not among the images of A.json (1)" in done.stderr
    done = evaluate("--json", cwd=folder)
    assert (done.returncode, json.loads(done.stdout)[0]["field"]) == (78, "P.json")


def test_torch_is_not_imported(folder: Path) -> None:
    code = (
        "import sys; from service.cli import main; "
        "main(['eval', '--predictions', 'P.json', '--annotations', 'A.json', '--json']); "
        "print({'torch', 'torchvision', 'matplotlib', 'mlflow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("set()\n")
