"""The order of jobs, and the ends of jobs that cannot succeed."""

import itertools
from typing import Any

import pytest

from pipelines.spec.load import apply_override

Document = dict[str, Any]


def quick(small: Document) -> Document:
    return {**small, "trainer": {**small["trainer"], "max_epochs": 1}}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_jobs_on_one_slot_never_overlap_and_run_by_priority_then_age(service: Any, small: Document) -> None:
    whole = {"cpus": 2}
    first = service.submit(quick(small), resources=whole)
    service.wait_for(first, lambda job: job["status"] != "queued")
    late, early = (service.submit(quick(small), resources=whole, priority=priority) for priority in (0, 5))
    ended = {job: service.wait(job) for job in (first, early, late)}
    assert {job["status"] for job in ended.values()} == {"succeeded"}
    spans = [(job["attempts"][0]["started_at"], job["attempts"][0]["ended_at"], name) for name, job in ended.items()]
    ordered = sorted(spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ordered))
    assert [name for _, _, name in ordered][1:] == [early, late]


@pytest.mark.integration
@pytest.mark.timeout(200)
def test_loss_that_is_not_finite_has_its_own_failure_kind(service: Any, small: Document) -> None:
    job = service.submit(apply_override(small, "model.optimizer.lr", 1e30))
    ended = service.wait(job)
    assert (ended["status"], ended["attempt"]) == ("failed", 1), service.describe(job)
    assert ended["failure"]["kind"] == "numerics"
    assert "loss" in ended["failure"]["message"]
    assert ended["failure"]["log_tail"]


@pytest.mark.integration
@pytest.mark.timeout(200)
def test_invalid_data_is_found_before_training(service: Any, small: Document) -> None:
    document = apply_override(small, "data.sources.shapes.labels.1.path", "annotations/nothing.csv")
    ended = service.wait(service.submit(document))
    assert (ended["status"], ended["failure"]["kind"], ended["attempt"]) == ("failed", "data_invalid", 1)
    assert "nothing.csv" in ended["failure"]["message"]


@pytest.mark.integration
@pytest.mark.timeout(200)
def test_job_that_takes_too_long_has_failed(service: Any, small: Document) -> None:
    ended = service.wait(service.submit(small, resources={"cpus": 1, "timeout_s": 1.0}))
    assert (ended["status"], ended["failure"]["kind"]) == ("failed", "timeout")
