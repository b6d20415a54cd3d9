"""The benchmark of the service runs with little load."""

import sys

import pytest

from tests.bench import service


def test_latencies_are_measured_without_and_with_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    load = '{"idle": 10, "slow": 4, "models": 0, "listeners": 10}'
    monkeypatch.setattr(sys, "argv", ["service", "--jobs", "300", "--seconds", "0.3", "--load", load])
    service.main()
    shown = capsys.readouterr().out
    for row in ("| /livez | none |", "| /v1/jobs | none |", "| /livez | full |", "| /v1/jobs | full |"):
        assert row in shown
