"""The benchmark of the loader runs on generated images."""

import sys

import pytest

from tests.bench import loader


def test_both_loaders_are_measured_without_bccd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.delenv("PYRAMIDION_DATA_ROOTS", raising=False)
    monkeypatch.setattr(sys, "argv", ["loader", "--images", "6", "--repeats", "1"])
    loader.main()
    shown = capsys.readouterr().out
    for row in ("| pyramidion |", "| torchvision: zoom, crop, flip, color |", "| read and decode, the loader |"):
        assert row in shown
