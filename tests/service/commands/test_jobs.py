"""`pyramidion jobs | show | logs | cancel | results`, as processes that talk to a real API process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.states import FailureKind, JobStatus
from service.store.records import NewJob
from tests.service.waiting import wait_until

Served = Any


@pytest.fixture
def submit(served: Served, small: dict[str, Any]) -> Any:
    """Submit the small document with the given name."""

    def submit(name: str) -> str:
        with served.client() as client:
            return str(client.submit({"config": {**small, "name": name}, "resources": {"cpus": 1}}).id)

    return submit


@pytest.fixture
def running(served: Served, submit: Any) -> Any:
    """A running job."""
    return served.claim(submit("running"))


def test_jobs_are_listed_newest_first_and_filtered(served: Served, submit: Any) -> None:
    ids = [submit(name) for name in ("one", "two", "two")]
    served.store.request_cancel(ids[1])
    lines = served.run("jobs", "--limit", "3").stdout.splitlines()
    assert [line.split()[0] for line in lines if set(line.split()) & set(ids)] == ids[::-1]
    for statuses in (["--status", "cancelled", "--status", "failed"], ["--status", "cancelled", "failed"]):
        two = json.loads(served.run("jobs", "--json", "--name", "two", *statuses).stdout)
        assert [(job["id"], job["status"]) for job in two] == [(ids[1], "cancelled")]


def test_list_can_be_longer_than_a_page(served: Served, small: dict[str, Any]) -> None:
    ids = [served.store.submit(NewJob("many", small, priority=0, cpus=1, gpus=0))[0].id for _ in range(103)]
    with served.client() as client:
        assert [job.id for job in client.jobs(name="many", limit=102)] == ids[:0:-1]


def test_empty_list_of_jobs_is_printed(served: Served) -> None:
    assert served.run("jobs", "--name", "unknown").stdout == "no jobs\n"
    assert json.loads(served.run("jobs", "--name", "unknown", "--json").stdout) == []


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--limit", "x"], ["--status", "done"]])
def test_invalid_options_are_usage_errors(served: Served, arguments: list[str]) -> None:
    done = served.run("jobs", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Invalid value for '{arguments[0]}': " in done.stderr


def test_show_explains_why_a_job_waits(served: Served, submit: Any) -> None:
    job_id = submit("waiting")
    done = served.run("show", job_id)
    assert (done.returncode, done.stderr) == (0, "")
    facts = {line[:10].strip(): line[10:].strip() for line in done.stdout.splitlines()}
    assert facts["status"] == "queued"
    assert facts["waits for"] == "no supervisor is running; start `pyramidion serve` again"
    assert "  name: waiting" in done.stdout.splitlines()


def test_show_lists_attempts_and_the_failure(served: Served, submit: Any) -> None:
    job = served.claim(submit("failing"))
    served.log(job, "the last word\n")
    served.fail(job, FailureKind.OUT_OF_MEMORY, "the host has no memory left")
    text = served.run("show", job.id).stdout
    assert "out_of_memory: the host has no memory left" in text
    assert "  the last word" in text.splitlines()
    shown = json.loads(served.run("show", job.id, "--json").stdout)
    assert (shown["failure"]["kind"], len(shown["attempts"])) == ("out_of_memory", 1)


@pytest.mark.parametrize("command", ["show", "logs", "cancel", "results"])
def test_unknown_job_is_reported_in_one_line(served: Served, command: str) -> None:
    done = served.run(command, "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: no job has the id 'nope'; GET /v1/jobs lists all jobs\n"


def test_logs_are_printed_completely_or_from_their_tail(served: Served, running: Any) -> None:
    served.log(running, "one\ntwo\n\nfour\n")
    assert served.run("logs", running.id).stdout == "one\ntwo\n\nfour\n"
    assert served.run("logs", running.id, "--tail", "2", "--attempt", "1").stdout == "\nfour\n"


def test_following_a_log_survives_a_killed_api_and_ends_with_the_job(served: Served, running: Any) -> None:
    served.log(running, "one\n")
    with served.open("logs", running.id, "-f") as process:
        assert process.stdout.readline() == "one\n"
        served.kill_api()
        served.log(running, "two\n")
        served.start()
        assert process.stdout.readline() == "two\n"
        served.log(running, "three\n")
        served.fail(running, FailureKind.KILLED, "the test is over")
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (0, "three\n", "")


def test_cancel_cancels_queued_jobs(served: Served, submit: Any) -> None:
    ids = [submit("queued"), submit("queued")]
    done = served.run("cancel", *ids)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [f"{job_id}: cancelled" for job_id in ids]
    assert {served.store.get(job_id).status for job_id in ids} == {JobStatus.CANCELLED}


def test_cancel_waits_until_a_running_job_is_cancelled(served: Served, running: Any) -> None:
    with served.open("cancel", running.id) as process:
        wait_until(lambda: served.store.get(running.id).cancel_requested_at is not None, "the cancel request")
        assert process.poll() is None
        job = served.leases.move(running, JobStatus.CANCELLING)
        served.leases.end_attempt(job, "cancelled")
        served.leases.move(job, JobStatus.CANCELLED)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, f"{running.id}: cancelled\n")


def test_cancel_with_no_wait_returns_at_once(served: Served, running: Any) -> None:
    done = served.run("cancel", "--no-wait", running.id)
    assert (done.returncode, done.stderr) == (0, "")
    assert served.store.get(running.id).cancel_requested_at is not None


def test_cancelling_an_ended_job_is_an_error_but_the_other_jobs_are_cancelled(served: Served, submit: Any) -> None:
    ended = served.claim(submit("ended"))
    served.succeed(ended)
    queued = submit("queued")
    done = served.run("cancel", ended.id, queued)
    assert done.returncode == 1
    error, cancelled = done.stderr.splitlines()
    assert error.startswith(f"error: job {ended.id} has already ended: succeeded")
    assert cancelled == f"{queued}: cancelled"


def test_results_are_tables_or_result_json(served: Served, submit: Any) -> None:
    job = served.claim(submit("done"))
    early = served.run("results", job.id)
    assert (early.returncode, early.stdout) == (1, "")
    assert "has no results yet" in early.stderr
    served.succeed(job)
    assert "scene on test: 4 images" in served.run("results", job.id).stdout
    result = json.loads(served.run("results", job.id, "--json").stdout)
    assert result["tasks"]["scene"]["accuracy"] == 0.75


def test_client_commands_import_no_server_framework() -> None:
    code = "import sys, service.commands.jobs, service.commands.submit, service.commands.predict\nprint(*sys.modules)"
    root = Path(__file__).resolve().parents[3]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert {"fastapi", "sqlalchemy", "mlflow", "torch", "uvicorn"} & set(loaded.split()) == set()
