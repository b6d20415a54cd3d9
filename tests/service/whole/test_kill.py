"""A job gives the numbers of `fit`. SIGKILL of any process at any moment leaves these numbers, one terminal state, and
no process."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.spec.load import apply_override, read_document, write_yaml

Document = dict[str, Any]

VICTIMS = ("api", "supervisor", "shim", "trainer", "rank", "data worker")
REPETITIONS = int(os.environ.get("RELIABILITY_REPETITIONS", "20"))
NUMBERS = ("summary", "tasks", "val")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def document(small: Document) -> Document:
    """Four epochs, so that a run can resume from several checkpoints."""
    return {**small, "trainer": {**small["trainer"], "max_epochs": 4}}


@pytest.fixture(scope="module")
def undisturbed(service: Any, document: Document) -> tuple[dict[str, Any], float]:
    """The result of an undisturbed run, and the seconds that it took."""
    return run_undisturbed(service, document)


def run_undisturbed(service: Any, document: Document) -> tuple[dict[str, Any], float]:
    started = time.monotonic()
    job = service.submit(document)
    assert service.wait(job)["status"] == "succeeded", service.describe(job)
    took_s = time.monotonic() - started
    # A job that has ended cannot be cancelled.
    assert service.ask("POST", f"/v1/jobs/{job}/cancel").status_code == 409
    assert service.job(job)["status"] == "succeeded"
    return service.results(job), took_s


def fit(document: Document, data_root: Path, folder: Path) -> dict[str, Any]:
    """Run `fit` in a process with one thread and return its result."""
    (folder / "job.yaml").write_text(write_yaml(document))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    arguments = ["fit", "--config", "job.yaml", "--data-root", str(data_root), "--run-dir", "run"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "service.cli", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads((folder / "run" / "result.json").read_text()))


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Return the places where two JSON values differ, numbers by more than 1e-6."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        return [line for key in ours for line in differences(ours[key], theirs[key], f"{path}/{key}")]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = zip(ours, theirs, strict=True)
        return [line for n, (a, b) in enumerate(pairs) for line in differences(a, b, f"{path}/{n}")]
    if isinstance(ours, float) and isinstance(theirs, float):
        return [] if abs(ours - theirs) <= 1e-6 else [f"{path}: {ours} {theirs}"]
    return [] if ours == theirs else [f"{path}: {ours} {theirs}"]


@pytest.mark.integration
def test_job_and_fit_give_the_same_metrics(
    undisturbed: tuple[dict[str, Any], float], document: Document, demo_root: Path, tmp_path: Path
) -> None:
    result, expected = undisturbed[0], fit(document, demo_root.parent, tmp_path)
    assert result["summary"].keys() == expected["summary"].keys()
    assert any(number for number in expected["summary"].values())
    assert differences({n: result[n] for n in NUMBERS}, {n: expected[n] for n in NUMBERS}) == []


@pytest.mark.slow
def test_job_and_fit_give_the_same_metrics_on_bccd(service: Any, tmp_path: Path) -> None:
    roots = [Path(part) for part in os.environ.get("PYRAMIDION_DATA_ROOTS", "").split(os.pathsep) if part]
    data_root = next((root for root in roots if (root / "bccd").is_dir()), None)
    if data_root is None:
        pytest.skip("no folder of PYRAMIDION_DATA_ROOTS contains bccd")
    document = apply_override(read_document("recipe:bccd"), "trainer.max_epochs", 2)
    expected = fit(document, data_root, tmp_path)
    other = type(service)(tmp_path / "root", data_root, cpus=1)
    other.start()
    job = other.submit(document)
    ended = other.wait(job, 280)
    result = other.results(job) if ended["status"] == "succeeded" else {}
    assert other.stop() == 0
    assert differences({n: result.get(n) for n in NUMBERS}, {n: expected[n] for n in NUMBERS}) == []


def run_json(service: Any, job: str) -> dict[str, Any]:
    """Return the run.json of the job's newest attempt; empty if no attempt has started."""
    files = sorted(
        (service.root / "jobs" / job / "attempts").glob("*/run.json"), key=lambda path: int(path.parent.name)
    )
    return dict(json.loads(files[-1].read_text())) if files else {}


def find(service: Any, victim: str, job: str) -> int | None:
    if victim in ("api", "supervisor"):
        return service.pid_of(f"service.{victim}.process")
    shim = run_json(service, job).get("pid")
    if victim == "shim" or shim is None:
        return shim
    try:
        trainer = next(iter(psutil.Process(shim).children()), None)
        if victim == "trainer" or trainer is None:
            return trainer and trainer.pid
        children = trainer.children(recursive=True)
        # A rank is a child with a number in its environment, a data worker one without a command line of its own.
        ranks = {child.pid for child in trainer.children() if child.environ().get("LOCAL_RANK", "0") != "0"}
        workers = {child.pid for child in children if child.cmdline() == trainer.cmdline()} - ranks
        return max(ranks if victim == "rank" else workers, default=None)
    except psutil.Error:
        return None


def kill(service: Any, victim: str, job: str) -> bool:
    """Kill the victim once it is running; return False if the job ended first."""
    while (pid := find(service, victim, job)) is None or not psutil.pid_exists(pid):
        if service.job(job)["status"] in ("succeeded", "failed", "cancelled"):
            return False
        time.sleep(0.02)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def check(service: Any, job: str, result: dict[str, Any], max_attempts: int) -> None:
    ended = service.wait(job)
    assert ended["status"] == "succeeded", service.describe(job)
    states = service.statuses(job)
    assert [state for state in states if state in ("succeeded", "failed", "cancelled")] == ["succeeded"], states
    assert service.processes(job) == []
    assert ended["attempt"] <= max_attempts, service.describe(job)
    ours = service.results(job)
    assert {name: ours[name] for name in NUMBERS} == {name: result[name] for name in NUMBERS}


def kill_at_random(service: Any, document: Document, victims: Sequence[str], undisturbed: Any) -> int:
    """Kill one process in as many runs as there are victims, two runs at a time, at random moments.

    Returns:
        The number of kills that hit: a run may have ended before.
    """
    result, took_s = undisturbed
    num_killed = 0
    for pair in zip(victims[::2], victims[1::2], strict=True):
        started = time.monotonic()
        due = sorted((random.random() * took_s, victim, service.submit(document)) for victim in pair)
        for moment, victim, job in due:
            time.sleep(max(0.0, started + moment - time.monotonic()))
            num_killed += kill(service, victim, job)
        for _, victim, job in due:
            check(service, job, result, 1 if victim in ("api", "supervisor") else 2)
    return num_killed


@pytest.mark.timeout(400)
def test_kills_of_each_process_change_nothing(service: Any, document: Document, undisturbed: Any) -> None:
    """The first attempt is killed when it has started or when it trains, the second when it has started.

    The API and the supervisor are killed right afterwards: no speed of the machine can miss these moments.
    """
    job = service.submit(document)
    stages = random.choice([("training",), (None, "validating_data", "training")])
    service.wait_for(job, lambda found: found["attempt"] == 1 and found["stage"] in stages)
    for number, victim in enumerate(("shim", "trainer"), 1):
        service.wait_for(job, lambda found, number=number: found["attempt"] == number)
        for killed in (victim, *random.sample(("api", "supervisor"), 2)):
            assert kill(service, killed, job), service.describe(job)
    check(service, job, undisturbed[0], 3)
    assert service.job(job)["attempt"] == 3, "both attempts were replaced"


@pytest.mark.reliability
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("victim", VICTIMS)
def test_runs_survive_twenty_kills(service: Any, document: Document, victim: str) -> None:
    if victim == "rank":
        document = apply_override(document, "trainer.devices", 2)
    elif victim == "data worker":
        document = apply_override(document, "data.num_workers", 1)
    undisturbed = run_undisturbed(service, document)
    num_runs = num_killed = 0
    while num_killed < REPETITIONS:
        num_killed += kill_at_random(service, document, [victim] * 2, undisturbed)
        num_runs += 2
        assert num_runs <= 4 * REPETITIONS, f"only {num_killed} of {num_runs} runs had a process to kill"
    print(f"killed in {num_killed} of {num_runs} runs")


@pytest.mark.integration
@pytest.mark.timeout(400)
def test_job_survives_the_end_of_the_whole_service(service: Any, document: Document, undisturbed: Any) -> None:
    """After a kill or a proper stop, the next service adopts the running process without a second attempt."""
    job = service.submit(document)
    service.wait_for(job, lambda job: job["stage"] == "training")
    before = run_json(service, job)
    [trainer] = psutil.Process(before["pid"]).children()
    trainer.suspend()  # so that it does not end before the third service starts
    service.kill_all()
    assert psutil.pid_exists(before["pid"])
    service.start()
    assert service.stop() == 0
    assert psutil.pid_exists(before["pid"])
    service.start()
    trainer.resume()
    check(service, job, undisturbed[0], 1)
    assert run_json(service, job)["pid"] == before["pid"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_trainer_killed_while_it_registers_leaves_one_version(service: Any, document: Document) -> None:
    name = "killed"
    job = service.submit({**document, "tracking": {"experiment": name, "register_as": name}})
    service.wait_for(job, lambda found: found["stage"] == "registering")
    assert kill(service, "trainer", job)
    ended = service.wait(job)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 2), service.describe(job)
    versions = service.ask("GET", f"/v1/models/{name}").json()["versions"]
    assert [(version["job_id"], version["run_id"]) for version in versions] == [(job, ended["mlflow_run_id"])]
    assert set(versions[0]["aliases"]) == {"candidate", "champion"}


@pytest.mark.reliability
@pytest.mark.timeout(3600)
def test_predictions_continue_after_kills_of_the_predictor(service: Any, document: Document, demo_root: Path) -> None:
    name = "predicted"
    job = service.submit({**document, "tracking": {"experiment": name, "register_as": name}})
    assert service.wait(job)["status"] == "succeeded", service.describe(job)
    image = next(demo_root.glob("images/test/*")).read_bytes()

    def predict() -> int:
        answer = service.ask("POST", f"/v1/models/{name}/predict", files={"image": ("image.jpg", image)}, timeout=120)
        assert answer.status_code in (200, 503), answer.text
        return int(answer.status_code)

    for _ in range(REPETITIONS):
        deadline = time.monotonic() + 120
        while predict() != 200:
            assert time.monotonic() < deadline
        (predictor,) = [
            child
            for child in psutil.Process(service.pid_of("service.api.process")).children()
            if "service.predictor.process" in child.cmdline()
        ]
        threading.Timer(random.random() / 2, predictor.kill).start()
        while predictor.is_running() and predictor.status() != psutil.STATUS_ZOMBIE:
            predict()
