"""The benchmark of large databases runs with few jobs."""

import sys

import pytest

from tests.bench import scale


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_queue_and_lists_are_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    few = ["--database", "sqlite", "--jobs", "300", "--claims", "10", "--latencies", "1"]
    monkeypatch.setattr(sys, "argv", ["scale", *few])
    monkeypatch.setattr(scale, "REPETITIONS", 1)
    scale.main()
    shown = capsys.readouterr().out
    for row in ("| claim |", "From the submission of a job to its claim", "| name and status, first page |"):
        assert row in shown
