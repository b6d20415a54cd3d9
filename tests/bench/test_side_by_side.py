"""Arithmetic of the comparison of runs side by side."""

import pytest

from tests.bench.side_by_side import CASES, Speed, environment_of, row


def test_row_has_the_medians_of_the_slower_and_the_faster_process() -> None:
    alone = [Speed(4.0, 250.0), Speed(5.0, 200.0), Speed(9.0, 110.0)]
    together = [[Speed(2.0, 400.0), Speed(1.0, 500.0)], [Speed(1.5, 450.0), Speed(2.5, 350.0)]]
    assert row(alone, together) == ["5.0", "200", "1.2, 2.2", "425"]


def test_each_case_decides_alone_about_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    spinning, sleeping, single = (environment_of(case) for case in CASES.values())
    assert not {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"} & spinning.keys()
    assert sleeping["OMP_WAIT_POLICY"] == "PASSIVE"
    assert "OMP_NUM_THREADS" not in sleeping
    assert single["OMP_NUM_THREADS"] == "1"
