"""The names of the Slurm jobs of attempts, and how such a job is submitted."""

import hashlib
import math
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from pipelines.run_folder.layout import AttemptDir, RunDir
from service.child_process import python_command
from service.executors.base import AttemptSpec
from service.executors.shim_contract import ORDER_FILE_OPTION
from service.resources import CPUS, GPUS

SLACK_S = 5.0
"""Time after the grace period in which a shim ends the whole process tree."""
_MAX_SIGNAL_S = 65535


def prefix_of(jobs_dir: Path) -> str:
    """Return the beginning of the names of all jobs of a service, which its root determines."""
    return f"pyramidion-{hashlib.sha256(os.fsencode(jobs_dir.resolve())).hexdigest()[:12]}-"


def name_of(folder: Path) -> str:
    """Return the name of the job of an attempt, `<jobs>/<job>/attempts/<n>`."""
    folder = folder.resolve()
    return f"{prefix_of(folder.parents[2])}{folder.parents[1].name}-{folder.name}"


def folder_of(name: str, jobs_dir: Path) -> Path:
    """Return the folder of an attempt from the name of its job, which starts with the prefix of `jobs_dir`."""
    job, _, number = name.removeprefix(prefix_of(jobs_dir)).rpartition("-")
    return RunDir.of(jobs_dir.resolve() / job).attempt(int(number))


def batch_script(folder: Path) -> str:
    """Return the script of a job: the shim with the signals of the job."""
    return f"#!/bin/sh\nexec {shlex.join(python_command('service.shim', str(folder), ORDER_FILE_OPTION))}\n"


def sbatch_arguments(spec: AttemptSpec, options: Sequence[str]) -> tuple[str, ...]:
    """Return the command that submits an attempt.

    The job is never requeued by Slurm. It gets SIGTERM before a time limit ends it, early enough for a checkpoint. Its
    environment is that of `sbatch`: with every other choice Slurm runs a login shell of the user on the node.

    Args:
        options: further options of `sbatch`.
    """
    folder = spec.folder.resolve()
    before_end_s = min(_MAX_SIGNAL_S, math.ceil(spec.grace_s + SLACK_S))
    return (
        "sbatch",
        *options,
        "--parsable",
        "--no-requeue",
        "--export=ALL",
        f"--job-name={name_of(folder)}",
        "--chdir=/",
        f"--output={str(AttemptDir(folder).log).replace('%', '%%')}",
        "--open-mode=append",
        f"--nodes={spec.num_nodes}",
        *_tasks(spec, spec.num_nodes),
        f"--signal=B:TERM@{before_end_s}",
    )


def command_of(spec: AttemptSpec) -> tuple[str, ...]:
    """Return what the shim of an attempt runs: its command, or on several nodes the process that starts it on each."""
    if spec.num_nodes == 1:
        return spec.command
    others = spec.num_nodes - 1
    step = (
        "srun",
        f"--nodes={others}",
        # The first node of the job is number 0.
        "--relative=1",
        *_tasks(spec, others),
        "--input=none",
        "--mpi=none",
        # The launchers decide when all of them end.
        "--wait=0",
        "--kill-on-bad-exit=0",
    )
    return python_command("service.executors.slurm.first_node", str(spec.num_nodes), *step, "--", *spec.command)


def _tasks(spec: AttemptSpec, num_nodes: int) -> tuple[str, ...]:
    """Return the options for one task on each of the nodes, with the resources of an attempt on each node."""
    each = spec.resources_per_node
    gpus = each.get(GPUS, 0)
    kind = f"{spec.gpu_type}:" if spec.gpu_type else ""
    gres = (f"--gres=gpu:{kind}{gpus}",) if gpus else ()
    return (f"--ntasks={num_nodes}", "--ntasks-per-node=1", f"--cpus-per-task={each[CPUS]}", *gres)
