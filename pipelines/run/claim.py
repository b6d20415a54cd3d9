"""Choosing a run folder, and holding it: one process at a time, and never over another run."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.data.dataset.checks.report import DataReport
from pipelines.errors import ConfigError, DataError, FieldProblem
from pipelines.preflight import Inputs
from pipelines.ranks import local_rank
from pipelines.records import SPLITS
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from pipelines.run_folder.schemas import DataReportFile, RunInputs
from pipelines.spec.job import JobSpec
from pipelines.spec.load import read_yaml, resolved, write_yaml

RUN_DIR_VARIABLE = "PYRAMIDION_RUN_DIR"
"""Hands the chosen folder from rank 0 to the ranks that it starts."""


def choose_run_dir(job: JobSpec, asked: Path | None, runs_root: Path) -> RunDir:
    """Return the folder of a new run, or of one that goes on.

    Raises:
        ConfigError: the folder holds another run, a finished one, or files that are no run.
    """
    if local_rank() > 0:
        if RUN_DIR_VARIABLE not in os.environ:
            raise ConfigError(
                FieldProblem(
                    "", "LOCAL_RANK is set; start one process alone, without a launcher, and it starts the others"
                )
            )
        return RunDir.of(Path(os.environ[RUN_DIR_VARIABLE]))
    path = (asked or runs_root / f"{job.name}-{time.strftime('%Y%m%d-%H%M%S')}").resolve()
    run_dir = RunDir.of(path)
    if path.is_file():
        raise ConfigError(FieldProblem("--run_dir", f"{path} is a file; name a folder"))
    if path.exists() and not run_dir.is_new:
        _require_same_run(run_dir, job)
    os.environ[RUN_DIR_VARIABLE] = str(path)
    return run_dir


def _require_same_run(run_dir: RunDir, job: JobSpec) -> None:
    if not run_dir.config_yaml.exists():
        raise ConfigError(FieldProblem("--run_dir", f"{run_dir.path} has files, and none of a run; name a new folder"))
    earlier = read_yaml(run_dir.config_yaml.read_text(), str(run_dir.config_yaml))
    differing = sorted(_differences(earlier, resolved(job)))
    if differing and run_dir.has_checkpoint:
        raise ConfigError(
            FieldProblem(
                "--run_dir",
                f"{run_dir.path} holds a run with other values of {', '.join(differing)}; name a new folder, or use "
                "the same document to go on",
            )
        )
    if is_finished(run_dir, job):
        raise ConfigError(FieldProblem("--run_dir", f"{run_dir.path} has a result already; name a new folder"))


def is_finished(run_dir: RunDir, job: JobSpec) -> bool:
    """Whether nothing is left to do: there is a result, it was sent, and registered where that was asked for."""
    wants_registration = job.tracking is not None and job.tracking.register_as is not None
    is_registered = run_dir.registration.exists() or not wants_registration
    return run_dir.result.exists() and is_registered and not run_dir.tracking_journal.exists()


def _differences(earlier: Any, now: Any, path: str = "") -> Iterator[str]:
    if isinstance(earlier, dict) and isinstance(now, dict):
        for key in sorted({str(key) for key in (*earlier, *now)}):
            before = {str(k): v for k, v in earlier.items()}.get(key)
            after = {str(k): v for k, v in now.items()}.get(key)
            yield from _differences(before, after, f"{path}.{key}" if path else key)
    elif earlier != now:
        yield path


def write_documents(run_dir: RunDir, asked: dict[str, Any], job: JobSpec, inputs: Inputs) -> None:
    """Write job.yaml (as asked, kept from the attempt that first wrote a checkpoint), config.yaml (as resolved) and
    inputs.json (where the data lies, and what the run began from: of a run that goes on, that of its first attempt)."""
    if not (run_dir.job_yaml.exists() and run_dir.has_checkpoint):
        write_atomic(run_dir.job_yaml, write_yaml(asked))
    write_atomic(run_dir.config_yaml, write_yaml(resolved(job)))
    first = read_inputs(run_dir) if run_dir.last_checkpoint.exists() else None
    began = first or inputs
    RunInputs(data=str(inputs.data), weights=began.weights, init_from=began.init_from).write(run_dir.inputs_json)


def require_same_data(run_dir: RunDir, report: DataReport) -> None:
    """Let a run go on with the data alone that it began with.

    Raises:
        DataError: images or labels of a split are others than an earlier attempt was trained on.
    """
    if not (run_dir.last_checkpoint.exists() and run_dir.data_report.exists()):
        return
    earlier = DataReportFile.read(run_dir.data_report).fingerprints
    splits = [split for split in SPLITS if earlier.get(split) != report.fingerprints.get(split)]
    if splits:
        raise DataError(
            FieldProblem(
                "data.root",
                f"{report.root} has changed in {', '.join(splits)} since {run_dir.path} was trained on it; bring the "
                "earlier data back, or name a new --run_dir",
            )
        )


def read_inputs(run_dir: RunDir) -> Inputs | None:
    """Return where the data and the weights of a run lay; None where it does not say."""
    if not run_dir.inputs_json.exists():
        return None
    inputs = RunInputs.read(run_dir.inputs_json)
    return Inputs(Path(inputs.data), inputs.weights, inputs.init_from)


@contextmanager
def held(run_dir: RunDir) -> Iterator[None]:
    """Hold the folder against other processes; the kernel lets go when this process ends, however it ends.

    Raises:
        ConfigError: another process holds it.
    """
    run_dir.path.mkdir(parents=True, exist_ok=True)
    with run_dir.lock.open("w") as file:
        try:
            # Not flock: data workers are forked, and one that outlives a killed run would hold it for seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                FieldProblem(
                    "--run_dir", f"{run_dir.path} is in use by another process; wait for it, or name a new folder"
                )
            ) from None
        yield
