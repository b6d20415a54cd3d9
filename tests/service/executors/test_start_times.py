"""How long an attempt takes to start and to end, on this host and in Slurm: figures for docs/operations.md."""

import os
import statistics
import time
from pathlib import Path

import pytest

from service.executors.base import AttemptSpec, Executor
from service.executors.registry import create_executor
from service.settings import Settings
from tests.service.waiting import wait_until
from tests.slurm import SlurmCluster

TIMES = 12


def measure(executor: Executor, folder: Path) -> tuple[float, float]:
    """Return the seconds until the command of an attempt runs, and until its exit is seen."""
    command = ("/bin/sh", "-c", "date +%s.%N")
    before = time.time()
    executor.start(AttemptSpec(folder, command, {"PATH": os.environ["PATH"]}, folder.parent, 8.0, {"cpus": 1}))
    wait_until(lambda: executor.poll(folder).kind == "exited", "the end of the attempt")
    return float((folder / "log.txt").read_text()) - before, time.time() - before


@pytest.mark.reliability
def test_attempts_start_in_slurm_too(slurm: SlurmCluster, tmp_path: Path) -> None:
    names = ("local", "slurm")
    executors = {name: create_executor(Settings(root=tmp_path, executor=name, cpus=1, gpus=0)) for name in names}
    jobs = tmp_path / "jobs"
    rounds = [
        {name: measure(executor, jobs / f"{name}{number}" / "attempts" / "1") for name, executor in executors.items()}
        for number in range(TIMES)
    ]
    for name in names:
        started, ended = (statistics.median(times) for times in zip(*(one[name] for one in rounds), strict=True))
        print(f"{name}: the command runs after {started:.2f} s, its exit is seen after {ended:.2f} s (medians)")
    assert len(rounds) == TIMES
