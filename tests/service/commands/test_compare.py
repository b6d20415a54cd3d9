"""`pyramidion compare`: tables, JSON and refusals."""

import json
from pathlib import Path

import pytest

from tests.service.command_runs import Finished, run_command
from tests.service.run_folders import write_classified_run

TRUTHS = "ab" * 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three runs: one that is always right, one that is right for `a` only, and one in between."""
    write_classified_run(tmp_path / "right", TRUTHS, TRUTHS)
    write_classified_run(tmp_path / "half", TRUTHS, "a" * 40)
    write_classified_run(tmp_path / "most", TRUTHS, TRUTHS[:-2] + "ba")
    return tmp_path


def compare(*arguments: str, cwd: Path) -> Finished:
    return run_command("compare", *arguments, cwd=cwd, environment={})


def test_json_has_values_and_intervals_of_each_run(folder: Path) -> None:
    done = compare("half", "right", "most", "--json", "--samples", "2000", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["runs"], found["split"], found["num_samples"]) == (["half", "right", "most"], "test", 2000)
    (accuracy,) = (row for row in found["tasks"]["kind"]["metrics"] if row["name"] == "accuracy")
    assert accuracy["values"] == [0.5, 1.0, 0.95]
    right, most = accuracy["differences"]
    # The share of images of the class b among 40 drawn: 0.5 with a standard deviation of 0.079.
    assert right["difference"] == 0.5
    assert (right["low"], right["high"]) == pytest.approx((0.5 - 1.96 * 0.079, 0.5 + 1.96 * 0.079), abs=0.03)
    assert right["excludes_zero"]
    assert most["difference"] == pytest.approx(0.45)
    recall_of_a = next(
        number
        for row in found["tasks"]["kind"]["per_class"]
        for number in row["numbers"]
        if (row["label"], number["name"]) == ("a", "recall")
    )
    assert recall_of_a["values"] == [1.0, 1.0, 0.95]
    assert recall_of_a["differences"][0] == {"difference": 0.0, "low": 0.0, "high": 0.0, "excludes_zero": False}


def test_tables_say_which_differences_are_real(folder: Path) -> None:
    done = compare("half", "right", cwd=folder)
    assert done.returncode == 0
    assert "kind on test, 40 images: half (first) and right (second)" in done.stdout
    row = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["accuracy"])
    assert row.split()[1:4] == ["0.500", "1.000", "+0.500"]
    assert row.split()[-1] == "yes"
    (row,) = (line for line in done.stdout.splitlines() if line.split()[:2] == ["a:", "recall"])
    assert row.split()[-1] == "no"
    assert done.stdout == compare("half", "right", cwd=folder).stdout


def test_refusals_are_json_too(folder: Path) -> None:
    write_classified_run(folder / "other", TRUTHS, TRUTHS, names=[f"new{n}.png" for n in range(40)])
    done = compare("right", "other", "--json", cwd=folder)
    assert done.returncode == 78
    (problem,) = json.loads(done.stdout)
    assert problem["field"] == "other"
    assert "scored 40 images (new0.png, new1.png, new2.png, ...) that right did not score" in problem["message"]
    assert "error: other: task 'kind'" in done.stderr
    done = compare("right", cwd=folder)
    assert (done.returncode, done.stderr) == (2, "pyramidion compare: got one RUN; name two or more\n")
    done = compare("right", "nothing", cwd=folder)
    assert (done.returncode, done.stdout) == (78, "")
    assert "error: nothing: result.json: No such file or directory; name a folder that fit" in done.stderr
    assert compare("right", "half", "--task", "cells", cwd=folder).returncode == 78
