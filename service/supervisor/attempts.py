"""The specification of an attempt: its document, command, environment and working directory."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.base.links import LINKS_VARIABLE
from pipelines.data.dataset.roots import DATA_ROOTS_VARIABLE
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import ATTEMPT_DIR_VARIABLE, RUNS_ROOT_VARIABLE, TENANT_VARIABLE, RunDir
from pipelines.spec.load import write_yaml
from service.child_process import child_environment
from service.datasets.resolution import data_roots_of_jobs
from service.executors.base import AttemptSpec
from service.inherited_environment import inherited_environment
from service.jobs.kinds.registry import job_kind
from service.settings import PREFIX, Settings
from service.store.records import Job

Command = Callable[[RunDir], tuple[str, ...]]
"""Returns the command line of an attempt in a run folder."""

WEIGHTS_ROOTS_VARIABLE = f"{PREFIX}WEIGHTS_ROOTS"


def attempt_folder(settings: Settings, job: Job) -> Path:
    """Return the folder of the job's current attempt, by which the executor identifies it."""
    return RunDir.of(settings.run_dir(job.id)).attempt(job.attempt)


def write_document(run_dir: RunDir, config: Mapping[str, Any]) -> None:
    """Write job.yaml, the document as it was submitted; raises OSError.

    A run that has trained keeps its file: a recipe may have completed the document.
    """
    if run_dir.job_yaml.exists() and run_dir.has_checkpoint:
        return
    write_atomic(run_dir.job_yaml, write_yaml(config))


def attempt_spec(
    settings: Settings,
    job: Job,
    devices: Sequence[str],
    mlflow_run_id: str | None,
    command: Command | None = None,
    start_until: float | None = None,
) -> AttemptSpec:
    """Return the specification of the job's current attempt; its working directory is its folder.

    Args:
        command: by default that of the job's kind.
        start_until: see `AttemptSpec`.
    """
    folder = attempt_folder(settings, job)
    command = command or job_kind(job.kind).command
    return AttemptSpec(
        folder=folder,
        command=command(RunDir.of(settings.run_dir(job.id))),
        environment=_environment(settings, job, folder, mlflow_run_id),
        cwd=folder,
        grace_s=settings.cancel_grace_s,
        resources=job.resources,
        devices=tuple(devices),
        start_until=start_until,
        num_nodes=job.num_nodes,
        gpu_type=job.gpu_type,
    )


def _environment(settings: Settings, job: Job, folder: Path, mlflow_run_id: str | None) -> dict[str, str]:
    return {
        # Threads that spin while they wait take cores from other jobs and from the service.
        "OMP_WAIT_POLICY": "PASSIVE",
        **child_environment(inherited_environment(os.environ, settings.trainer_variables)),
        DATA_ROOTS_VARIABLE: _joined(data_roots_of_jobs(settings)),
        WEIGHTS_ROOTS_VARIABLE: _joined(settings.weights_roots),
        f"{PREFIX}DECODE_TIMEOUT_S": str(settings.decode_timeout_s),
        f"{PREFIX}DECODE_MEMORY_BYTES": str(settings.decode_memory_bytes),
        ATTEMPT_DIR_VARIABLE: str(folder),
        RUNS_ROOT_VARIABLE: str(settings.root),
        TENANT_VARIABLE: job.tenant,
        LINKS_VARIABLE: "refuse",
        "OMP_NUM_THREADS": str(job.cpus),
        "MKL_NUM_THREADS": str(job.cpus),
        # The log is read while it is written.
        "PYTHONUNBUFFERED": "1",
        **({"MLFLOW_RUN_ID": mlflow_run_id} if mlflow_run_id else {}),
    }


def _joined(folders: Sequence[Path]) -> str:
    return os.pathsep.join(map(str, folders))
