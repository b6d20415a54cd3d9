"""`pyramidion jobs | show | logs | cancel | results`, as processes that ask a real API process."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from service.states import FailureKind, JobStatus
from service.store.records import NewJob

Served = Any


@pytest.fixture
def submit(served: Served, small: dict[str, Any]) -> Any:
    """Submit the small document under a name."""

    def submit(name: str) -> str:
        with served.client() as client:
            return str(client.submit({"config": {**small, "name": name}, "resources": {"cpus": 1}}).id)

    return submit


@pytest.fixture
def running(served: Served, submit: Any) -> Any:
    """A job that runs."""
    return served.claim(submit("running"))


def test_jobs_are_listed_newest_first_and_filtered(served: Served, submit: Any) -> None:
    ids = [submit(name) for name in ("one", "two", "two")]
    served.store.request_cancel(ids[1])
    lines = served.run("jobs", "--limit", "3").stdout.splitlines()
    assert [line.split()[0] for line in lines if set(line.split()) & set(ids)] == ids[::-1]
    two = json.loads(served.run("jobs", "--json", "--name", "two", "--status", "cancelled", "failed").stdout)
    assert [(job["id"], job["status"]) for job in two] == [(ids[1], "cancelled")]


def test_more_jobs_than_a_page_has_are_listed(served: Served, small: dict[str, Any]) -> None:
    ids = [served.store.submit(NewJob("many", small, priority=0, cpus=1, gpus=0))[0].id for _ in range(103)]
    with served.client() as client:
        assert [job.id for job in client.jobs(name="many", limit=102)] == ids[:0:-1]


def test_no_jobs_are_an_empty_list(served: Served) -> None:
    assert served.run("jobs", "--name", "nobody").stdout == "no jobs\n"
    assert json.loads(served.run("jobs", "--name", "nobody", "--json").stdout) == []


@pytest.mark.parametrize("words", [["--limit", "0"], ["--limit", "x"], ["--status", "done"]])
def test_wrong_options_are_refused(served: Served, words: list[str]) -> None:
    done = served.run("jobs", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"argument {words[0]}: " in done.stderr


def test_show_tells_why_a_job_waits(served: Served, submit: Any) -> None:
    job_id = submit("waiting")
    done = served.run("show", job_id)
    assert (done.returncode, done.stderr) == (0, "")
    facts = {line[:10].strip(): line[10:].strip() for line in done.stdout.splitlines()}
    assert facts["status"] == "queued"
    assert facts["waits for"] == "no supervisor is running; start `pyramidion serve` again"
    assert "  name: waiting" in done.stdout.splitlines()


def test_show_tells_attempts_and_why_a_job_has_failed(served: Served, submit: Any) -> None:
    job = served.claim(submit("failing"))
    served.log(job, "the last word\n")
    served.fail(job, FailureKind.OUT_OF_MEMORY, "the host has no memory left")
    text = served.run("show", job.id).stdout
    assert "out_of_memory: the host has no memory left" in text
    assert "  the last word" in text.splitlines()
    shown = json.loads(served.run("show", job.id, "--json").stdout)
    assert (shown["failure"]["kind"], len(shown["attempts"])) == ("out_of_memory", 1)


@pytest.mark.parametrize("command", ["show", "logs", "cancel", "results"])
def test_a_job_that_is_not_there_is_one_line(served: Served, command: str) -> None:
    done = served.run(command, "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: no job has the id 'nope'; GET /v1/jobs lists all jobs\n"


def test_logs_are_printed_whole_or_their_end(served: Served, running: Any) -> None:
    served.log(running, "one\ntwo\n\nfour\n")
    assert served.run("logs", running.id).stdout == "one\ntwo\n\nfour\n"
    assert served.run("logs", running.id, "--tail", "2", "--attempt", "1").stdout == "\nfour\n"


def test_logs_are_followed_to_the_jobs_end_over_a_killed_api(served: Served, running: Any) -> None:
    served.log(running, "one\n")
    with served.begin("logs", running.id, "-f") as process:
        assert process.stdout.readline() == "one\n"
        served.kill_api()
        served.log(running, "two\n")
        served.start()
        assert process.stdout.readline() == "two\n"
        served.log(running, "three\n")
        served.fail(running, FailureKind.KILLED, "the test is over")
        rest, told = process.communicate(timeout=60)
    assert (process.returncode, rest, told) == (0, "three\n", "")


def test_cancel_ends_what_is_queued(served: Served, submit: Any) -> None:
    ids = [submit("queued"), submit("queued")]
    done = served.run("cancel", *ids)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [f"{job_id}: cancelled" for job_id in ids]
    assert {served.store.get(job_id).status for job_id in ids} == {JobStatus.CANCELLED}


def test_cancel_waits_until_a_running_job_is_cancelled(served: Served, running: Any) -> None:
    with served.begin("cancel", running.id) as process:
        deadline = time.monotonic() + 30
        while served.store.get(running.id).cancel_requested_at is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert process.poll() is None
        job = served.leases.move(running, JobStatus.CANCELLING)
        served.leases.end_attempt(job, "cancelled")
        served.leases.move(job, JobStatus.CANCELLED)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (0, f"{running.id}: cancelled\n")


def test_cancel_does_not_wait_if_asked(served: Served, running: Any) -> None:
    done = served.run("cancel", "--no-wait", running.id)
    assert (done.returncode, done.stderr) == (0, "")
    assert served.store.get(running.id).cancel_requested_at is not None


def test_cancelling_what_has_ended_is_told_and_the_others_are_cancelled(served: Served, submit: Any) -> None:
    ended = served.claim(submit("ended"))
    served.succeed(ended)
    queued = submit("queued")
    done = served.run("cancel", ended.id, queued)
    assert done.returncode == 1
    told, cancelled = done.stderr.splitlines()
    assert told.startswith(f"error: job {ended.id} has already ended: succeeded")
    assert cancelled == f"{queued}: cancelled"


def test_results_are_tables_or_the_whole_document(served: Served, submit: Any) -> None:
    job = served.claim(submit("done"))
    early = served.run("results", job.id)
    assert (early.returncode, early.stdout) == (1, "")
    assert "no results (yet)" in early.stderr
    served.succeed(job)
    assert "scene on test: 4 images" in served.run("results", job.id).stdout
    result = json.loads(served.run("results", job.id, "--json").stdout)
    assert result["tasks"]["scene"]["accuracy"] == 0.75


def test_client_commands_start_without_a_server_framework() -> None:
    code = "import sys, service.commands.jobs, service.commands.submit, service.commands.predict\nprint(*sys.modules)"
    root = Path(__file__).resolve().parents[3]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert {"fastapi", "sqlalchemy", "mlflow", "torch", "uvicorn"} & set(loaded.split()) == set()
