"""A disk that fills up stops new jobs before it breaks those that run."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine, event

from service.settings import Settings
from tests.service.api.problem_answers import is_problem
from tests.service.api.servers import serving


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
    assert not check["is_ok"]
    free, same = check["detail"].split(maxsplit=1)  # other processes use the disk, too
    assert int(free) > 0
    assert same == problem["detail"].split(maxsplit=1)[1]


def test_jobs_can_still_be_cancelled_and_deleted(almost_full: httpx2.Client, submit: Any) -> None:
    job_id = submit()
    assert almost_full.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert almost_full.post(f"/v1/jobs/{job_id}/retry").status_code == 507
    assert almost_full.delete(f"/v1/jobs/{job_id}").status_code == 204


def test_repeated_request_gets_its_job_although_the_disk_is_almost_full(
    api: httpx2.Client, settings: Settings, document: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "the first"}
    first = api.post("/v1/jobs", json={"config": document}, headers=key).json()
    api.post(f"/v1/jobs/{first['id']}/cancel")
    again = api.post(f"/v1/jobs/{first['id']}/retry", headers={"Idempotency-Key": "again"}).json()
    with serving(settings.model_copy(update={"min_free_bytes": 1 << 60, "data_roots": ()})) as almost_full:
        replayed = almost_full.post("/v1/jobs", json={"config": document}, headers=key)
        assert (replayed.status_code, replayed.headers["idempotent-replayed"]) == (202, "true")
        assert replayed.json()["id"] == first["id"]
        retried = almost_full.post(f"/v1/jobs/{first['id']}/retry", headers={"Idempotency-Key": "again"})
        assert (retried.status_code, retried.json()["id"]) == (202, again["id"])
        other = almost_full.post("/v1/jobs", json={"config": document, "priority": 1}, headers=key)
        assert is_problem(other, 422)
        assert other.json()["title"] == "Idempotency key already used"


@pytest.fixture
def without_pages(api: httpx2.Client) -> Iterator[Callable[[], None]]:
    """Return a function after which no file of SQLite grows, as on a full disk."""

    def limit(connection: Any, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # at least the pages that the file has

    yield lambda: event.listen(Engine, "connect", limit)
    event.remove(Engine, "connect", limit)


def test_full_disk_of_the_database_is_507_for_every_change(
    api: httpx2.Client, settings: Settings, without_pages: Callable[[], None], document: dict[str, Any]
) -> None:
    job_id = api.post("/v1/jobs", json={"config": document}).json()["id"]
    without_pages()
    with serving(settings) as full:
        for _ in range(200):  # the pages of the file have some room
            answer = full.post("/v1/jobs", json={"config": document})
            if answer.status_code != 202:
                break
        assert is_problem(answer, 507)
        problem = answer.json()
        assert problem["title"] == "The disk of the database is full"
        assert "nothing was changed" in problem["detail"]
        assert full.get(f"/v1/jobs/{job_id}").status_code == 200


def test_every_change_documents_a_full_disk(shared_api: httpx2.Client) -> None:
    for path, methods in shared_api.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            assert method == "get" or "507" in operation["responses"], (method, path)
