"""JSON files of a run folder: files of other versions can be read, and written files keep their format."""

import json
from pathlib import Path

import pytest

from pipelines.data.dataset.checks.report import DataReport
from pipelines.run_folder.attempt_files import AttemptExit, AttemptFailure, AttemptFile, FitProcess, ShimProcess
from pipelines.run_folder.layout import AttemptDir, RunDir
from pipelines.run_folder.schemas import (
    DataReportFile,
    FileSchema,
    PredictedImage,
    Registration,
    RunInputs,
)
from pipelines.run_folder.tracking_files import ArtifactEntry, BatchEntry, StatusEntry, TrackingState, parse_entry

File = FileSchema | AttemptFile

WRITTEN: list[tuple[File, str]] = [
    (
        ShimProcess(pid=7, start_time=9, boot_id="b", host="h", started=1.5, trainer_pid=None),
        '{"pid": 7, "start_time": 9, "boot_id": "b", "host": "h", "started": 1.5, "trainer_pid": null}',
    ),
    (
        FitProcess(pid=7, host="h", started=1.5, argv=["fit"]),
        '{"pid": 7, "host": "h", "started": 1.5, "argv": ["fit"]}',
    ),
    (AttemptExit(code=75, ended=2.5), '{"code": 75, "ended": 2.5, "ran_out_of_memory": false}'),
    (AttemptExit(code=-9, ended=2.5, ran_out_of_memory=True), '{"code": -9, "ended": 2.5, "ran_out_of_memory": true}'),
    (AttemptFailure(kind="numerics", message="nan"), '{"kind": "numerics", "message": "nan"}'),
    (
        RunInputs(data="/d", weights="none", init_from=None),
        '{"data": "/d", "weights": "none", "init_from": null}',
    ),
    (Registration(name="cells", version=3), '{"name": "cells", "version": 3}'),
    (
        TrackingState(tracking_uri="sqlite:///m.db", key="k", run_id=None),
        '{"tracking_uri": "sqlite:///m.db", "key": "k", "run_id": null}',
    ),
    (BatchEntry(kind="batch", metrics=[("loss", 1.0, 5, 2)]), '{"kind": "batch", "metrics": [["loss", 1.0, 5, 2]]}'),
    (
        ArtifactEntry(kind="artifact", path="plots", folder="plots"),
        '{"kind": "artifact", "path": "plots", "folder": "plots"}',
    ),
    (
        StatusEntry(kind="status", status="RUNNING", time_ms=5),
        '{"kind": "status", "status": "RUNNING", "time_ms": 5}',
    ),
]


@pytest.mark.parametrize(("record", "text"), WRITTEN, ids=[type(record).__name__ for record, _ in WRITTEN])
def test_written_text_equals_that_of_earlier_versions_and_can_be_read(record: File, text: str, tmp_path: Path) -> None:
    record.write(tmp_path / "file.json")
    assert (tmp_path / "file.json").read_text() == text
    assert type(record).read(tmp_path / "file.json") == record


@pytest.mark.parametrize(("record", "text"), WRITTEN, ids=[type(record).__name__ for record, _ in WRITTEN])
def test_unknown_fields_of_a_newer_version_are_ignored(record: File, text: str, tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text(json.dumps(json.loads(text) | {"of_a_newer_version": {"nested": [1]}}))
    assert type(record).read(tmp_path / "file.json") == record


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"code": "failed"}'])
def test_missing_or_damaged_file_is_not_valid(text: str | None, tmp_path: Path) -> None:
    files = AttemptDir(tmp_path)
    if text is not None:
        files.exit_json.write_text(text)
    assert AttemptExit.read_if_valid(files.exit_json) is None


def test_exit_without_the_fields_of_later_versions_is_read(tmp_path: Path) -> None:
    files = AttemptDir(tmp_path)
    files.exit_json.write_text('{"code": 75}')
    assert AttemptExit.read(files.exit_json) == AttemptExit(75)


def test_inputs_written_before_init_from_existed_are_read(tmp_path: Path) -> None:
    run_dir = RunDir.of(tmp_path)
    run_dir.inputs_json.write_text('{"data": "/d", "weights": "default"}')
    assert RunInputs.read(run_dir.inputs_json) == RunInputs(data="/d", weights="default", init_from=None)


def test_data_report_is_written_in_its_schema(tmp_path: Path) -> None:
    run_dir = RunDir.of(tmp_path)
    report = DataReport(root="/d", fingerprints={})
    report.write(run_dir.data_report)
    assert DataReportFile.read(run_dir.data_report).model_dump() == report.to_dict()


def test_prediction_contains_the_answers_of_all_tasks() -> None:
    answer = {"image": {"width": 4, "height": 3}, "tasks": {"kind": {"labels": [{"label": "a", "score": 0.5}]}}}
    shown = PredictedImage(file="a.png", **answer).model_dump(exclude_unset=True)
    assert shown == {"file": "a.png", **answer}


@pytest.mark.parametrize("line", [b"\n", b'{"kind": "bat', b'{"kind": "newer"}', b"1", b'{"kind": "status"}'])
def test_lines_that_are_not_entries_of_the_journal_are_skipped(line: bytes) -> None:
    assert parse_entry(line) is None
