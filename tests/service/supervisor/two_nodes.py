"""A training on two nodes that a supervisor starts, whatever runs its attempts."""

import shlex
import sys
from pathlib import Path
from typing import Any

from pipelines.spec.load import write_yaml
from service.states import JobStatus
from service.store.records import Job
from tests.service.supervisor.conftest import Bench


def begin_training(here: Bench, document: dict[str, Any], data: Path, folder: Path) -> Job:
    """Submit a training with one process on each of two nodes, and return its job once it has a checkpoint.

    Args:
        here: has a data root that contains the data.
        document: of a small job, which is changed.
        data: folder of the data set.
        folder: for the document.
    """
    document["trainer"] |= {"num_nodes": 2, "devices": 1, "max_epochs": 3}
    document["model"]["backbone"] = {"name": "timm:test_resnet", "weights": "none"}
    document["data"] |= {"image_size": 64, "root": data.name}
    (folder / "job.yaml").write_text(write_yaml(document))
    command = [sys.executable, "-m", "pipelines.cli", "fit", "--config", str(folder / "job.yaml"), "--run-dir"]
    job = here.submit(f"exec {shlex.join(command)} ../..", num_nodes=2)
    checkpoint = here.run_dir(job).last_checkpoint
    here.wait_until(lambda: checkpoint.exists() or here.jobs.get(job.id).status.is_terminal, here.supervisor.tick)
    assert not here.jobs.get(job.id).status.is_terminal, here.file(job, "log.txt").read_text()
    return job


def resume_training(here: Bench, job: Job) -> None:
    """Wait until the second attempt of a training has resumed from the checkpoint of the first, and has succeeded."""
    # Separate waits, since training takes long on a busy machine.
    log = here.file(job, "log.txt", attempt=2)
    here.wait_until(lambda: "resuming from" in log.read_text(), here.supervisor.tick)
    assert here.ended(job).status is JobStatus.SUCCEEDED, log.read_text()
