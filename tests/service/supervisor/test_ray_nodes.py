"""Jobs on two nodes of a real Ray, which are two raylets of one host: they train together, and resume."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.executors.ray.executor import RayExecutor
from service.settings import Settings
from tests.ray_cluster import CPUS, RayForTests
from tests.service.supervisor.conftest import Bench
from tests.service.supervisor.two_nodes import begin_training, resume_training
from tests.service.waiting import wait_until

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(1800)]


@pytest.fixture
def executor(ray: RayForTests) -> Iterator[RayExecutor]:
    """The executor of two nodes; it is used in their network."""
    with ray.with_another_node(CPUS), ray.used() as settings:
        executor = RayExecutor.from_settings(Settings(executor="ray", **settings))
        wait_until(lambda: executor.capacity()["nodes"] == 2, "the second node")
        yield executor


@pytest.fixture
def made(executor: RayExecutor, bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    monkeypatch.setattr("tests.service.supervisor.conftest.LocalExecutor", lambda cpus, gpus: executor)
    return lambda **settings: bench(cpus=2 * CPUS, cancel_grace_s=60.0, **settings)


def test_job_trains_on_two_nodes_and_resumes_after_its_driver_was_killed(
    made: Callable[..., Bench], small_document: dict[str, Any], demo_root: Path, tmp_path: Path,
    no_mlflow_settings: None,
) -> None:  # fmt: skip
    here = made(max_attempts=2, data_roots=(demo_root.parent,))
    job = begin_training(here, small_document, demo_root, tmp_path)
    folder = str(here.run_dir(job).attempt(1))
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if "service.executors.ray.group_driver" in words and folder in words:
            process.kill()
    resume_training(here, job)
    assert [attempt.outcome for attempt in here.jobs.attempts(job.id)] == ["stopped", "succeeded"]
