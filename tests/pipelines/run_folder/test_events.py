"""events.jsonl stays readable even if the process that writes it is killed."""

import json
import time
from pathlib import Path

import pytest

from pipelines.run_folder.events import (
    EventLog,
    MetricData,
    ProgressData,
    StageData,
    StatusData,
    WarningData,
    parse_event,
    read_events,
)

STAGE = {"time": 1, "kind": "stage", "epoch": 0, "step": 0, "data": {"stage": "training"}}


def test_event_has_time_kind_epoch_step_and_data(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "new" / "events.jsonl")
    log.write(MetricData({"val/cells/AP": None, "val/cells/AP50": 0.1}), epoch=2, step=7)
    log.write(StageData(stage="training"))
    log.close()
    first, second = (json.loads(line) for line in (tmp_path / "new" / "events.jsonl").read_text().splitlines())
    assert abs(first.pop("time") - time.time()) < 60
    assert first == {
        "kind": "metric",
        "epoch": 2,
        "step": 7,
        "data": {"val/cells/AP": None, "val/cells/AP50": 0.1},
    }
    assert (second["epoch"], second["step"], second["data"]) == (0, 0, {"stage": "training"})


def test_progress_includes_the_learned_task_weights() -> None:
    fields = {"losses": {"train/cells/box": 1.5}, "lr": 0.1, "images_per_s": 2.0, "left_s": 3.0}
    counts = {"batch": 1, "batches": 2, "max_epochs": 4}
    assert ProgressData(**fields, **counts, **{"balance/cells": 0.5}).to_data() == {
        **fields,
        **counts,
        "balance/cells": 0.5,
    }


def test_status_names_the_previous_status_from() -> None:
    assert StatusData(before=None, to="queued", attempt=0).to_data() == {"from": None, "to": "queued", "attempt": 0}


def test_line_torn_by_a_kill_does_not_damage_the_first_line_of_the_next_attempt(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(STAGE) + '\n{"kind": "prog')
    EventLog(path).write(StageData(stage="training"))
    EventLog(path).write(WarningData(message="slow"))
    assert [event.data for event in read_events(path)] == [
        {"stage": "training"},
        {"stage": "training"},
        {"message": "slow"},
    ]
    assert path.read_text().count("\n") == 4


def test_non_finite_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        EventLog(tmp_path / "events.jsonl").write(MetricData({"loss": float("nan")}))
    assert (tmp_path / "events.jsonl").read_bytes() == b""


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = EventLog(None)
    log.write(StageData(stage="training"))
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_fields_of_a_newer_version_are_accepted() -> None:
    event = parse_event(STAGE | {"host": "a", "data": {"stage": "training", "detail": {"deep": 1}}})
    assert event is not None
    assert event.data == {"stage": "training", "detail": {"deep": 1}}


@pytest.mark.parametrize(
    "line",
    [1, "text", {}, STAGE | {"kind": "status"}, STAGE | {"kind": "of a newer version"}, STAGE | {"epoch": "1"}]
    + [STAGE | {"data": None}, {key: value for key, value in STAGE.items() if key != "time"}],
)
def test_other_lines_are_not_events(line: object) -> None:
    assert parse_event(line) is None
