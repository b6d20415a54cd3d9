"""A disk that fills up stops new jobs before it breaks those that run."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from service.settings import Settings
from tests.service.api.conftest import serving


@pytest.fixture
def almost_full(settings: Settings) -> Iterator[httpx2.Client]:
    """A service that may not use the free space of its disk."""
    with serving(settings.model_copy(update={"min_free_bytes": 1 << 60})) as api:
        yield api


def test_jobs_are_refused_with_the_remedy_while_the_disk_is_almost_full(
    almost_full: httpx2.Client, document: dict[str, Any], settings: Settings
) -> None:
    answer = almost_full.post("/v1/jobs", json={"config": document})
    assert answer.status_code == 507
    problem = answer.json()
    assert problem["title"] == "The disk is almost full"
    assert "PYRAMIDION_MIN_FREE_BYTES" in problem["detail"]
    assert "`pyramidion gc`" in problem["detail"]
    assert almost_full.get("/v1/jobs").json()["jobs"] == []
    (check,) = (one for one in almost_full.get("/readyz").json()["checks"] if one["name"] == "disk")
    assert (check["is_ok"], check["detail"]) == (False, problem["detail"])


def test_jobs_can_still_be_cancelled_and_deleted(almost_full: httpx2.Client, submit: Any) -> None:
    job_id = submit()
    assert almost_full.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert almost_full.post(f"/v1/jobs/{job_id}/retry").status_code == 507
    assert almost_full.delete(f"/v1/jobs/{job_id}").status_code == 204
