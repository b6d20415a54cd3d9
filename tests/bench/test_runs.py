"""Shared code of benchmarks: tables, the data set, and reuse of finished runs."""

import json
from pathlib import Path

import pytest

from tests.bench import runs


def test_table_shows_mean_and_range_of_the_seeds() -> None:
    shown = runs.table(
        "recipe:x", {"trained": [{"AP": 0.5, "s": 100.0}, {"AP": 0.7, "s": 120.0}], "other": [{"AP": 0.1}]}
    )
    assert "| AP | 0.600 (0.500 to 0.700) | 0.100 |" in shown
    assert "| s | 110 (100 to 120) |  |" in shown


def test_without_the_data_the_message_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYRAMIDION_DATA_ROOTS", raising=False)
    with pytest.raises(SystemExit, match="PYRAMIDION_DATA_ROOTS=DIR make bench"):
        runs.find_bccd()


def test_turned_table_has_one_column_per_figure() -> None:
    shown = runs.turned_table("x", {"full": [{"AP": 0.5, "s": 10.0}], "freeze": [{"s": 5.0}]})
    assert "| | AP | s |" in shown
    assert "| freeze |  | 5 |" in shown


def test_finished_run_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/result.json").write_text('{"split": "test"}')
    spent = [{"run": "a", "wall_s": 2.0, "peak_mib": 7.0}, {"run": "b", "wall_s": 9.0}, {"run": "a", "wall_s": 1.0}]
    (tmp_path / "times.jsonl").write_text("".join(json.dumps(row) + "\n" for row in spent))
    (outcome,) = runs.execute_all([runs.Run("a", ("--config=recipe:none",))], tmp_path, jobs=1)
    assert outcome == runs.Outcome({"split": "test"}, wall_s=3.0, peak_mib=7.0)


@pytest.mark.slow
def test_failed_run_stops_the_benchmark_with_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"bench: wrong exited with 78, see .*wrong\.log"):
        runs.execute_all([runs.Run("wrong", ("--config=recipe:none",))], tmp_path, jobs=2)
