"""events.jsonl stays readable, whatever happens to its writer."""

import json
import time
from pathlib import Path

import pytest

from pipelines.run_folder.events import EventLog, read_events


def test_event_has_time_kind_place_and_data(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "new" / "events.jsonl")
    log.write("metric", {"val/cells/AP": None}, epoch=2, step=7)
    log.write("stage", {"stage": "training"})
    log.close()
    first, second = (json.loads(line) for line in (tmp_path / "new" / "events.jsonl").read_text().splitlines())
    assert abs(first.pop("time") - time.time()) < 60
    assert first == {"kind": "metric", "epoch": 2, "step": 7, "data": {"val/cells/AP": None}}
    assert (second["epoch"], second["step"]) == (0, 0)


def test_half_a_line_of_a_killed_attempt_does_not_spoil_the_next_attempts_first(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind": "stage", "data": 1}\n{"kind": "prog')
    EventLog(path).write("stage", {"stage": "training"})
    EventLog(path).write("stage", {"stage": "evaluating"})
    assert [event["data"] for event in read_events(path)] == [1, {"stage": "training"}, {"stage": "evaluating"}]
    assert path.read_text().count("\n") == 4


def test_what_is_no_json_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        EventLog(tmp_path / "events.jsonl").write("progress", {"loss": float("nan")})
    assert (tmp_path / "events.jsonl").read_bytes() == b""


def test_other_ranks_write_nothing() -> None:
    log = EventLog(None)
    log.write("stage", {})
    log.close()
