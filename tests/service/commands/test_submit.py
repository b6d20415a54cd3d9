"""`pyramidion submit`, as a process that talks to a real API process."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from service.states import FailureKind, JobStatus

Served = Any
PROGRESS = {
    "losses": {"train/shapes/boxes": 0.5}, "lr": 0.1, "images_per_s": 12.0, "left_s": 61.0, "max_epochs": 2,
    "batch": 5, "batches": 5,
}  # fmt: skip


def job_id_of(process: subprocess.Popen[str]) -> str:
    """Return the first line of the output: the job's id, printed as soon as the job exists."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def read_until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Return the lines of standard error up to the first one that contains the text."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        if text in line:
            return lines
    raise AssertionError("\n".join(lines))


def test_standard_output_contains_only_the_id(served: Served, job_yaml: Path) -> None:
    done = served.run(
        "submit", str(job_yaml), "--priority", "7", "--model.optimizer.lr", "5e-4", "--cpus", "2", "--timeout=90"
    )
    assert (done.returncode, done.stderr) == (0, "")
    [job_id] = done.stdout.split("\n")[:-1]
    job = served.store.get(job_id)
    assert (job.status, job.priority, job.cpus, job.timeout_s) == (JobStatus.QUEUED, 7, 2, 90.0)
    assert served.store.config(job_id)["model"]["optimizer"]["lr"] == 5e-4


def test_printed_request_is_what_the_server_accepts(served: Served, job_yaml: Path) -> None:
    with served.client() as client:
        before = [job.id for job in client.jobs(limit=1000)]
        printed = served.run("submit", str(job_yaml), "--priority=7", "--model.optimizer.lr=5e-4", "--print-request")
        assert (printed.returncode, printed.stderr) == (0, "")
        assert [job.id for job in client.jobs(limit=1000)] == before
        job = client.submit(json.loads(printed.stdout))
    assert job.priority == 7
    assert served.store.config(job.id)["model"]["optimizer"]["lr"] == 5e-4


def test_shipped_recipe_is_submitted_by_name(served: Served) -> None:
    done = served.run("submit", "recipe:demo", "--data.root", "demo")
    assert (done.returncode, done.stderr) == (0, "")
    assert served.store.get(done.stdout.strip()).name == "demo"


def test_invalid_fields_are_reported_one_per_line_as_with_fit(served: Served, job_yaml: Path) -> None:
    wrong = ("--model.tasks.shapes.head", "fcoss", "--data.image_sizes", "96")
    done = served.run("submit", str(job_yaml), *wrong)
    assert (done.returncode, done.stdout) == (78, "")
    lines = done.stderr.splitlines()
    assert any(line.startswith("error: model.tasks.shapes.head: got 'fcoss'") for line in lines)
    assert any(line.startswith("error: data.image_sizes: unknown key") for line in lines)
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.backbone.name", "resnet5O"], "error: model.backbone.name: backbone 'resnet5O'"),
        (["--data.root", "nowhere"], "error: data.root: no folder 'nowhere' below"),
        (["--priority", "300"], "error: priority: got 300"),
        (["--cpus", "99"], "error: resources.cpus: got 99"),
        (["--optimizer"], "error: --optimizer: has no value"),
    ],
)
def test_invalid_value_is_reported_in_one_line_with_exit_code_78(
    served: Served, job_yaml: Path, arguments: list[str], message: str
) -> None:
    done = served.run("submit", str(job_yaml), *arguments)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


def test_unreachable_service_is_reported_in_one_line(served: Served, job_yaml: Path) -> None:
    """No process listens on the discard port of the loopback interface."""
    done = served.run("submit", str(job_yaml), PYRAMIDION_URL="http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert "http://127.0.0.1:9" in line
    assert "PYRAMIDION_URL" in line
    assert "`pyramidion serve`" in line


def test_waiting_prints_one_line_per_epoch_and_then_the_tables(served: Served, job_yaml: Path) -> None:
    with served.open("submit", str(job_yaml), "--wait") as process:
        job = served.claim(job_id_of(process))
        job = served.record(job, ("stage", {"stage": "training"}))
        for epoch in (0, 1):
            job = served.record(job, ("progress", {**PROGRESS, "batch": 4}), ("progress", PROGRESS), epoch=epoch)
        job = served.record(job, ("metric", {"val/scene/mAP": 0.25, "val/scene/accuracy": None}), epoch=1)
        served.succeed(job)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "")
    lines = errors.splitlines()
    assert [line for line in lines if line.startswith("epoch")] == [
        "epoch 1/2  12.0 images/s  0:01:01 left  shapes/boxes 0.500",
        "epoch 2/2  12.0 images/s  0:01:01 left  shapes/boxes 0.500",
        "epoch 2: val/scene/mAP 0.250",
    ]
    assert {"starting", "running", "training", "succeeded"} <= set(lines)
    assert any("scene on test: 4 images" in line for line in lines)
    assert any("0.750" in line and "0.625" in line for line in lines)


@pytest.mark.parametrize(
    ("kind", "code"), [("config_invalid", 78), ("data_invalid", 78), ("numerics", 65), ("killed", 1)]
)
def test_exit_code_after_waiting_is_that_of_the_failure(served: Served, job_yaml: Path, kind: str, code: int) -> None:
    with served.open("submit", str(job_yaml), "--wait") as process:
        job = served.claim(job_id_of(process))
        served.log(job, "first words\nlast words\n")
        served.fail(job, FailureKind(kind), "the training failed")
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"error: job {job.id} has failed: {kind}: the training failed\n" in errors
    assert errors.endswith("last words\n")


def test_waiting_for_a_cancelled_job_exits_with_130(served: Served, job_yaml: Path) -> None:
    with served.open("submit", str(job_yaml), "--wait") as process:
        served.store.request_cancel(job_id_of(process))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1].endswith("was cancelled")


def test_waiting_survives_a_killed_api_and_repeats_nothing(served: Served, job_yaml: Path) -> None:
    with served.open("submit", str(job_yaml), "--wait") as process:
        job = served.claim(job_id_of(process))
        job = served.record(job, ("progress", PROGRESS))
        before = read_until(process, "epoch 1/2")
        served.kill_api()
        job = served.record(job, ("progress", PROGRESS), epoch=1)
        served.start()
        after = read_until(process, "epoch 2/2")
        served.succeed(job)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert before[-1].startswith("epoch 1/2")
    assert [line[:9] for line in after] == ["epoch 2/2"]


def test_ctrl_c_leaves_the_job_running_and_prints_how_to_cancel_it(served: Served, job_yaml: Path) -> None:
    with served.open("submit", str(job_yaml), "--wait") as process:
        job = served.claim(job_id_of(process))
        read_until(process, "running")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines() == [f"job {job.id} keeps running; cancel it with `pyramidion cancel {job.id}`"]
    assert served.store.get(job.id).status is JobStatus.RUNNING
    served.fail(job, FailureKind.KILLED, "the test is over")
