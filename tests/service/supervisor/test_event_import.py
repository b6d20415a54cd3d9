"""events.jsonl is read from a byte offset on."""

import json
from pathlib import Path

import pytest

from pipelines.run_folder.events import EventLog, StageData
from service.supervisor import event_import
from service.supervisor.event_import import read_event_lines


def test_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert read_event_lines(tmp_path / "events.jsonl", 0) == event_import.EventLines([], 0)


def test_each_line_is_read_once_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [json.dumps({"n": n}) + "\n" for n in range(5)]
    read, offset = [], 0
    with path.open("w") as file:
        for character in "".join(lines):
            file.write(character)
            file.flush()
            part = read_event_lines(path, offset)
            read, offset = read + part.lines, part.offset
    assert read == [{"n": n} for n in range(5)]
    assert offset == path.stat().st_size


def test_half_a_line_of_a_killed_trainer_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"n": 1}\n{"n": 2')
    first = read_event_lines(path, 0)
    assert first.lines == [{"n": 1}]
    resumed = EventLog(path)
    resumed.write(StageData(stage="training"))
    resumed.close()
    (line,) = read_event_lines(path, first.offset).lines
    assert line["kind"] == "stage"


def test_long_file_is_read_in_chunks_and_a_long_line_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_import, "CHUNK_BYTES", 16)
    path = tmp_path / "events.jsonl"
    values = [{"text": "x" * length} for length in (1, 100, 2, 3)]
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    read, offset, parts = [], 0, 0
    while (part := read_event_lines(path, offset)).offset != offset:
        read, offset, parts = read + part.lines, part.offset, parts + 1
    assert read == values
    assert parts > 1


def test_file_shorter_than_the_offset_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"n": 1}\n{"n": 2}\n')
    offset = read_event_lines(path, 0).offset
    path.write_text('{"m": 1}\n')
    assert read_event_lines(path, offset) == event_import.EventLines([{"m": 1}], 9)


@pytest.mark.parametrize("damaged", ['{"n": NaN}', '{"n": -Infinity}', "[" * 100_000])
def test_line_that_no_database_stores_is_skipped(damaged: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(f'{{"n": 1}}\n{damaged}\n{{"n": 2}}\n')
    assert read_event_lines(path, 0).lines == [{"n": 1}, {"n": 2}]
