"""The supervisor lets the retention rules run in a process of their own."""

from collections.abc import Callable
from typing import Any

import pytest

from service.settings import Settings
from service.states import JobStatus
from service.supervisor.retention_schedule import RetentionSchedule
from tests.service.waiting import wait_until

MakeBench = Callable[..., Any]


def test_supervisor_deletes_what_the_rules_do_not_keep(bench: MakeBench) -> None:
    service = bench(gc_every_s=0.5, keep_last_checkpoint_s=1e-3)
    write = "mkdir -p ../../checkpoints; touch ../../checkpoints/best.ckpt ../../checkpoints/last.ckpt"
    job = service.submit(f"{write}; {service.SUCCEED}")
    assert service.ended(job).status is JobStatus.SUCCEEDED
    run_dir = service.run_dir(job)
    service.wait_until(lambda: not run_dir.last_checkpoint.exists(), service.supervisor.tick)
    assert run_dir.best_checkpoint.exists()


@pytest.mark.usefixtures("no_mlflow_settings")
def test_run_that_takes_too_long_is_killed(tmp_path: Any) -> None:
    settings = Settings(root=tmp_path, gc_every_s=3600, gc_timeout_s=0.05)
    schedule = RetentionSchedule(settings)
    schedule.tick()
    assert schedule._process is None
    schedule._due = 0.0
    schedule.tick()
    process = schedule._process
    assert process is not None

    def has_ended() -> bool:
        schedule.tick()
        return schedule._process is None

    wait_until(has_ended, "the end of the process")
    assert process.returncode == -9
