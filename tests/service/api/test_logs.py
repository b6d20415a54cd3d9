"""Logs of attempts over REST."""

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from service.settings import Settings
from service.states import JobStatus
from service.store.leases import LeasedStore
from service.store.records import Job
from tests.service.waiting import TIMEOUT_S, wait_until

MakeJob = Callable[[], Job]
EndJob = Callable[[Job], Job]
NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture
def settings(shared_settings: Settings) -> Settings:
    """Settings of the shared application; jobs of other tests do not matter here."""
    return shared_settings


@pytest.fixture
def api(shared_api: httpx2.Client) -> httpx2.Client:
    return shared_api


def text(api: httpx2.Client, job: Job, **params: Any) -> str:
    answer = api.get(f"/v1/jobs/{job.id}/logs", params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return answer.text


def lines(api: httpx2.Client, job: Job, **params: Any) -> list[dict[str, Any]]:
    answer = api.get(f"/v1/jobs/{job.id}/logs", params=params, headers=NDJSON)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def write(settings: Settings) -> Callable[..., Path]:
    """Append to the log of an attempt and return its path."""

    def write(job: Job, raw: bytes, attempt: int | None = None) -> Path:
        path = settings.run_dir(job.id) / "attempts" / str(attempt or job.attempt) / "log.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(raw)
        return path

    return write


@pytest.fixture
def next_attempt(leases: LeasedStore) -> Callable[[Job], Job]:
    """Record a job's attempt as lost, and start another one."""

    def start(job: Job) -> Job:
        leases.end_attempt(job, "lost")
        leases.requeue(job, not_before=0.0, spends_retry=True, message="lost")
        again = leases.claim(job.id, [])
        assert again is not None
        return leases.move(again, JobStatus.RUNNING)

    return start


Write = Callable[..., Path]
NextAttempt = Callable[[Job], Job]


def test_log_is_text_without_terminal_control_sequences(api: httpx2.Client, running_job: MakeJob, write: Write) -> None:
    write(job := running_job(), "\x1b[32mgrün\x1b[0m\n10%\r100%\n".encode() + b"\xff torn")
    assert text(api, job) == "grün\n100%\n\ufffd torn"


def test_ndjson_line_has_the_offset_to_continue_from(api: httpx2.Client, running_job: MakeJob, write: Write) -> None:
    write(job := running_job(), b"one\n\x1b[1mtwo\x1b[0m\nthree\n")
    all_lines = lines(api, job)
    assert [(line["attempt"], line["text"]) for line in all_lines] == [(1, "one"), (1, "two"), (1, "three")]
    assert lines(api, job, after=all_lines[0]["offset"]) == all_lines[1:]
    assert text(api, job, after=all_lines[1]["offset"]) == "three\n"
    assert text(api, job, after=all_lines[2]["offset"]) == ""


def test_tail_spans_all_requested_attempts(
    api: httpx2.Client, running_job: MakeJob, write: Write, next_attempt: NextAttempt
) -> None:
    write(job := running_job(), b"a1\na2\nhalf a line")
    write(job := next_attempt(job), b"b1\nb2\n")
    assert text(api, job) == "b1\nb2\n"
    assert text(api, job, attempt=1) == "a1\na2\nhalf a line"
    assert text(api, job, attempt="all") == "a1\na2\nhalf a line\nb1\nb2\n"
    assert text(api, job, tail=1) == "b2\n"
    assert text(api, job, tail=5) == "b1\nb2\n"
    assert text(api, job, attempt="all", tail=2) == "b1\nb2\n"
    assert text(api, job, attempt="all", tail=3) == "half a line\nb1\nb2\n"
    assert text(api, job, attempt="all", tail=100) == "a1\na2\nhalf a line\nb1\nb2\n"
    assert text(api, job, attempt="all", tail=0) == ""
    assert [(line["attempt"], line["text"]) for line in lines(api, job, attempt="all", tail=3)] == [
        (1, "half a line"), (2, "b1"), (2, "b2"),
    ]  # fmt: skip


def test_following_a_log_includes_later_attempts_until_the_job_ends(
    api: httpx2.Client, running_job: MakeJob, write: Write, next_attempt: NextAttempt, end_job: EndJob
) -> None:
    job = running_job()
    heard: list[str] = []

    def follow() -> None:
        with api.stream("GET", f"/v1/jobs/{job.id}/logs", params={"follow": True}) as answer:
            heard.extend(answer.iter_text())

    def wait_for(expected: str) -> None:
        wait_until(lambda: expected in "".join(heard), expected, pause_s=0.01)

    thread = threading.Thread(target=follow)
    thread.start()
    write(job, b"first\nsec")
    wait_for("first\n")
    assert "sec" not in "".join(heard)
    write(job, b"ond\nkilled here")
    wait_for("second\n")
    second = next_attempt(job)
    wait_for("killed here\n")
    write(second, b"again\n")
    wait_for("again\n")
    write(second, b"the last words")
    end_job(second)
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
    assert "".join(heard) == "first\nsecond\nkilled here\nagain\nthe last words"


def test_following_a_queued_job_waits_for_its_first_attempt(
    api: httpx2.Client, queued_job: MakeJob, leases: LeasedStore, write: Write, end_job: EndJob
) -> None:
    job = queued_job()
    assert text(api, job) == text(api, job, attempt="all") == ""
    heard: list[str] = []
    thread = threading.Thread(target=lambda: heard.append(text(api, job, follow=True)))
    thread.start()
    time.sleep(0.5)
    started = leases.claim(job.id, [])
    assert started is not None
    write(started, b"hello\n")
    end_job(leases.move(started, JobStatus.RUNNING))
    thread.join(TIMEOUT_S)
    assert heard == ["hello\n"]


def test_invalid_or_missing_attempt_is_a_problem(api: httpx2.Client, running_job: MakeJob, queued_job: MakeJob) -> None:
    job = running_job()
    for asked, params, status in (
        (job, {"attempt": 2}, 404),
        (queued_job(), {"attempt": 1}, 404),
        (job, {"attempt": 0}, 422),
        (job, {"attempt": "some"}, 422),
        (job, {"tail": -1}, 422),
        (job, {"after": 2**63}, 422),
        (job, {"follow": "perhaps"}, 422),
    ):
        answer = api.get(f"/v1/jobs/{asked.id}/logs", params=params)
        assert answer.status_code == status, params
        assert answer.headers["content-type"] == "application/problem+json"
    assert api.get(f"/v1/jobs/{job.id}/logs", headers={"Accept": "application/json"}).status_code == 406


def test_offset_in_several_attempts_is_rejected(
    api: httpx2.Client, running_job: MakeJob, next_attempt: NextAttempt
) -> None:
    job = next_attempt(running_job())
    answer = api.get(f"/v1/jobs/{job.id}/logs", params={"attempt": "all", "after": 1})
    assert answer.status_code == 422
    assert "?attempt=1" in answer.json()["detail"]


LINE = b"step 000000 loss 0.123456 lr 0.001 images_per_s 12.3 " + b"." * 75 + b"\n"


def check_memory(live_api: Any, job: Job, path: Path, num_bytes: int) -> None:
    """Read a log of this size next to clients that stop reading it, and check the memory of the process."""
    with path.open("wb") as file:
        for _ in range(num_bytes // (len(LINE) * 8192)):
            file.write(LINE * 8192)
    size = path.stat().st_size
    assert live_api.client.get("/livez").status_code == 200
    process = psutil.Process(live_api.process.pid)
    before = process.memory_info().rss

    idle = []
    for accept in ("text/plain", "application/x-ndjson") * 8:
        connection = socket.create_connection(("127.0.0.1", live_api.port))
        connection.sendall(
            f"GET /v1/jobs/{job.id}/logs HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode()
        )
        idle.append(connection)
    received = 0
    with live_api.client.stream("GET", f"/v1/jobs/{job.id}/logs") as answer:
        for chunk in answer.iter_raw():
            received += len(chunk)
    assert received == size
    with live_api.client.stream("GET", f"/v1/jobs/{job.id}/logs", params={"tail": 3}) as answer:
        assert answer.read() == LINE * 3
    assert process.memory_info().rss - before < 48 << 20
    for connection in idle:
        connection.close()


def test_long_log_and_clients_that_do_not_read_it_need_little_memory(
    live_api: Any, running_job: MakeJob, write: Write
) -> None:
    check_memory(live_api, job := running_job(), write(job, b""), 96 << 20)


@pytest.mark.slow
def test_log_of_a_gigabyte_needs_little_memory(live_api: Any, running_job: MakeJob, write: Write) -> None:
    check_memory(live_api, job := running_job(), write(job, b""), 1 << 30)
