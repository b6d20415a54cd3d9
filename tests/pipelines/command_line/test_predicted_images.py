"""The output of `predict`."""

import json
from typing import Any

import pytest

from pipelines.command_line.predicted_images import print_rows

ROW: dict[str, Any] = {"file": "a.jpg", "image": {"width": 4, "height": 3}, "tasks": {}}


def test_warnings_about_files_are_printed_apart_from_the_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [ROW, {**ROW, "file": "b.jpg", "warnings": ["is truncated"]}]
    print_rows(rows)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == rows
    assert printed.err == "warning: b.jpg: is truncated\n"
