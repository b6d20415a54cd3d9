"""Attempts at the end of a run, without the training before it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.data.dataset.index import build_index
from pipelines.preflight import Inputs
from pipelines.run.attempt import Attempt
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import validate_document
from pipelines.training.stopping import StopRequest


@pytest.fixture
def attempt_at(demo_root: Path, tmp_path: Path) -> Callable[[dict[str, Any]], Attempt]:
    """Return the attempt at a document over the demo data, in the folder `run` of the test."""

    def make(document: dict[str, Any]) -> Attempt:
        job = validate_document(document)
        index, report = build_index(job, demo_root)
        return Attempt(job, Inputs(demo_root, "none"), index, report, RunDir.of(tmp_path / "run"), StopRequest())

    return make
