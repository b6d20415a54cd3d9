"""Events of a job over REST: as a stream, and as pages with an optional wait."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from service.api import event_stream
from service.settings import Settings
from service.store.jobs import JobStore
from service.store.leases import LeasedStore
from service.store.records import Job
from tests.service.waiting import TIMEOUT_S, wait_until

MakeJob = Callable[[], Job]
EndJob = Callable[[Job], Job]
Record = Callable[..., Job]
SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def settings(shared_settings: Settings) -> Settings:
    """Settings of the shared application; jobs of other tests do not matter here."""
    return shared_settings


@pytest.fixture
def api(shared_api: httpx2.Client) -> httpx2.Client:
    return shared_api


def listen(api: httpx2.Client, job_id: str, **more: Any) -> list[dict[str, str]]:
    """Return every message of a stream until the server ends it."""
    headers = {**SSE, **more.pop("headers", {})}
    with api.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, **more) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = "".join(answer.iter_text())
    fields = [dict(line.split(": ", 1) for line in message.splitlines()) for message in text.split("\n\n") if message]
    return [message for message in fields if "data" in message]


def page(api: httpx2.Client, job_id: str, **params: Any) -> dict[str, Any]:
    answer = api.get(f"/v1/jobs/{job_id}/events", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_stream_has_the_same_events_as_pages_and_ends_with_the_job(
    api: httpx2.Client, running_job: MakeJob, end_job: EndJob, record: Record
) -> None:
    job = record(running_job(), range(500), text="two\nlines")
    end_job(job)
    messages = listen(api, job.id)
    found = page(api, job.id, limit=1000)
    assert [json.loads(message["data"]) for message in messages] == found["events"]
    assert [int(message["id"]) for message in messages] == [event["seq"] for event in found["events"]]
    assert [message["event"] for message in messages] == ["status"] * 3 + ["metric"] * 500 + ["status"] * 2
    assert found["events"][-1]["data"] == {"from": "finalizing", "to": "succeeded", "attempt": 1}
    assert found["is_over"]
    assert found["events"][3]["time"].endswith("Z")


def test_stream_starts_with_the_reconnection_time(api: httpx2.Client, running_job: MakeJob, end_job: EndJob) -> None:
    job = running_job()
    end_job(job)
    text = api.get(f"/v1/jobs/{job.id}/events", headers=SSE).text
    assert text.startswith("retry: 3000\n\nid: ")


def test_stream_continues_after_the_last_event_of_the_client(
    api: httpx2.Client, running_job: MakeJob, end_job: EndJob, record: Record
) -> None:
    job = record(running_job(), range(10))
    end_job(job)
    everything = listen(api, job.id)
    for header, params in (
        ({"Last-Event-ID": everything[4]["id"]}, {"after": 0}),
        ({}, {"after": everything[4]["id"]}),
    ):
        assert listen(api, job.id, headers=header, params=params) == everything[5:]


def test_stream_without_more_events_is_204(api: httpx2.Client, running_job: MakeJob, end_job: EndJob) -> None:
    job = running_job()
    end_job(job)
    last = page(api, job.id)["next_after"]
    answer = api.get(f"/v1/jobs/{job.id}/events", headers={**SSE, "Last-Event-ID": str(last)})
    assert answer.status_code == 204
    assert answer.content == b""
    assert page(api, job.id, after=last) == {"events": [], "next_after": last, "is_over": True}


def test_stream_delivers_events_as_they_are_recorded(
    api: httpx2.Client, running_job: MakeJob, end_job: EndJob, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The ping of a silent stream would deliver them too, but later than this test waits.
    monkeypatch.setattr(event_stream, "PING_S", 3600.0)
    job = running_job()
    heard: list[str] = []

    def listener() -> None:
        with api.stream("GET", f"/v1/jobs/{job.id}/events", headers=SSE) as answer:
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    heard.append(line)

    thread = threading.Thread(target=listener)
    thread.start()
    wait_until(lambda: heard, "the first event")
    record(job, [1])
    wait_until(lambda: "event: metric" in heard, "the event while the stream is open")
    end_job(job)
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()


def test_cancellation_of_a_queued_job_ends_its_stream(api: httpx2.Client, queued_job: MakeJob, store: JobStore) -> None:
    job = queued_job()
    timer = threading.Timer(0.5, store.request_cancel, [job.id])
    timer.start()
    messages = listen(api, job.id)
    timer.join()
    assert [json.loads(message["data"])["data"]["to"] for message in messages] == ["queued", "cancelled"]


def test_each_page_continues_after_the_previous_one(
    api: httpx2.Client, running_job: MakeJob, end_job: EndJob, record: Record
) -> None:
    end_job(record(job := running_job(), range(20)))
    whole = page(api, job.id)
    after, events, is_over = 0, [], False
    while not is_over:
        found = page(api, job.id, after=after, limit=4)
        assert len(found["events"]) <= 4
        events += found["events"]
        after, is_over = found["next_after"], found["is_over"]
    assert events == whole["events"]


def test_waiting_page_is_returned_as_soon_as_an_event_arrives(
    api: httpx2.Client, running_job: MakeJob, record: Record
) -> None:
    job = running_job()
    after = page(api, job.id)["next_after"]
    timer = threading.Timer(0.5, record, (job, [7]))
    asked = time.monotonic()
    timer.start()
    found = page(api, job.id, after=after, wait=30)
    waited_s = time.monotonic() - asked
    timer.join()
    assert [event["step"] for event in found["events"]] == [7]
    assert not found["is_over"]
    assert waited_s < 30, "the page did not wait for its whole time"


def test_waiting_page_is_empty_after_a_timeout(api: httpx2.Client, running_job: MakeJob) -> None:
    job = running_job()
    after = page(api, job.id)["next_after"]
    asked = time.monotonic()
    assert page(api, job.id, after=after, wait=0.4) == {"events": [], "next_after": after, "is_over": False}
    assert time.monotonic() - asked >= 0.4


def test_page_contains_the_effects_of_the_clients_last_request(
    api: httpx2.Client, queued_job: MakeJob, store: JobStore
) -> None:
    with ThreadPoolExecutor(5) as clients:
        for _ in range(5):
            job = queued_job()
            # A waiting client keeps earlier reads cached.
            clients.submit(page, api, job.id, after=2**40, wait=1)
            page(api, job.id)
            assert api.post(f"/v1/jobs/{job.id}/cancel").is_success
            assert [event["data"]["to"] for event in page(api, job.id)["events"]] == ["queued", "cancelled"]


def test_events_of_earlier_attempts_are_kept(api: httpx2.Client, running_job: MakeJob, leases: LeasedStore) -> None:
    job = running_job()
    leases.end_attempt(job, "lost")
    leases.requeue(job, not_before=0.0, spends_retry=True, message="the shim has died")
    assert leases.claim(job.id, []) is not None
    attempts = [event["attempt"] for event in page(api, job.id)["events"]]
    assert attempts == [0, 1, 1, 1, 2]


@pytest.mark.parametrize(
    ("headers", "params", "status"),
    [
        ({"Last-Event-ID": "not-a-number"}, {}, 422),
        ({"Last-Event-ID": "-1"}, {}, 422),
        ({}, {"after": -1}, 422),
        ({}, {"after": 2**63}, 422),
        ({}, {"wait": "nan"}, 422),
        ({}, {"wait": 31}, 422),
        ({}, {"limit": 0}, 422),
        ({"Accept": "image/png"}, {}, 406),
    ],
)
def test_invalid_request_is_a_problem(
    api: httpx2.Client, queued_job: MakeJob, headers: dict[str, str], params: dict[str, Any], status: int
) -> None:
    answer = api.get(f"/v1/jobs/{queued_job().id}/events", headers=headers, params=params)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("path", ["events", "logs"])
def test_unknown_job_has_neither_events_nor_logs(api: httpx2.Client, path: str, accept: str) -> None:
    accept = accept if path == "events" else "text/plain"
    answer = api.get(f"/v1/jobs/unknown/{path}", headers={"Accept": accept})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_page_after_a_future_sequence_number_is_empty(api: httpx2.Client, running_job: MakeJob) -> None:
    assert page(api, running_job().id, after=2**63 - 1) == {"events": [], "next_after": 2**63 - 1, "is_over": False}
