"""Attempts whose files cannot be read end nevertheless: by a cancel request, or with a reason after some errors."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from service.states import FailureKind, JobStatus
from service.store.dataset_records import CheckedDataset, JobImages, NewDatasetVersion
from service.store.datasets import DatasetStore
from service.supervisor import loop

MakeBench = Callable[..., Any]


def test_cancel_stops_an_attempt_whose_events_cannot_be_read(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_PAUSE_S", 0.05)
    made = bench()
    job = made.submit(made.at_term("echo stopped > stopped; exit 75"))
    made.file(job, "ready")
    made.run_dir(job).events.mkdir()
    made.jobs.request_cancel(job.id)
    ended = made.ended(job)
    assert ended.status is JobStatus.CANCELLED
    assert made.file(job, "stopped").read_text() == "stopped\n", "SIGTERM came first"
    assert made.leased.all_active() == [], "its cores are free"


def test_attempt_whose_events_cannot_be_read_fails_with_the_reason(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MAX_PAUSE_S", 0.05)
    made = bench(max_attempts=1)
    job = made.submit(made.at_term("exit 75"))
    made.file(job, "ready")
    made.run_dir(job).events.mkdir()
    ended = made.ended(job)
    assert (ended.status, ended.failure_kind) == (JobStatus.FAILED, FailureKind.INTERNAL)
    assert "could not watch the attempt: IsADirectoryError" in str(ended.failure_message)


def test_result_counts_although_the_last_events_cannot_be_read(
    bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MAX_PAUSE_S", 0.05)
    made = bench()
    job = made.submit(f"mkdir ../../events.jsonl; {made.SUCCEED}")
    assert made.ended(job).status is JobStatus.SUCCEEDED


def test_time_limit_follows_no_clock_that_can_be_set(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(max_attempts=1)
    now = time.time()
    job = made.submit(made.at_term("exit 75"), timeout_s=600.0)
    made.file(job, "ready")
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    made.new_supervisor()
    for _ in range(5):
        made.supervisor.tick()
    assert made.jobs.get(job.id).status is JobStatus.RUNNING
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    limited = made.submit(made.at_term("exit 75"), timeout_s=0.5)
    ended = made.ended(limited)
    assert (ended.status, ended.failure_kind) == (JobStatus.FAILED, FailureKind.TIMEOUT)


def test_job_whose_images_cannot_be_used_fails_with_the_reason(bench: MakeBench) -> None:
    made = bench()
    version = NewDatasetVersion("one", "images-one", "a" * 64, "a" * 64, of_jobs=True)
    job = made.submit(made.SUCCEED, images=JobImages(version, 1000))
    made.supervisor.tick()
    assert made.jobs.get(job.id).status is JobStatus.QUEUED, "its images are being extracted"
    datasets = DatasetStore(made.engine)
    assert datasets.claim_check("me", 60) is not None
    datasets.finish_check("one", "me", CheckedDataset(is_ready=False, message="contains no image files"))
    ended = made.ended(job)
    assert (ended.status, ended.failure_kind) == (JobStatus.FAILED, FailureKind.DATA_INVALID)
    assert ended.failure_message == "the data set images-one@aaaaaaaaaaaa is invalid: contains no image files"
