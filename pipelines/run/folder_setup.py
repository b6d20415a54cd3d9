"""The run folder of an attempt: chosen, locked, compared with an earlier attempt, and given its documents."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.base.clock import folder_timestamp
from pipelines.base.errors import ConfigError, DataError, FieldProblem
from pipelines.base.ranks import is_rank_zero
from pipelines.base.records import SPLITS
from pipelines.data.dataset.checks.report import DataReport
from pipelines.preflight import Inputs
from pipelines.run.open_fields import with_stored_values
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RUN_DIR_VARIABLE, RunDir
from pipelines.run_folder.schemas import DataReportFile, RunInputs, RunPrecision
from pipelines.spec.job import JobSpec
from pipelines.spec.load import load_job, resolved, write_yaml

CHANGEABLE = frozenset({"trainer.num_nodes", "trainer.devices"})
"""Fields that may change when a run resumes; see `pipelines.training.rank_changes`."""


def choose_run_dir(job: JobSpec, requested: Path | None, runs_root: Path) -> RunDir:
    """Return the folder for a new run, or that of a run to resume.

    Args:
        job: the document.
        requested: the folder that the user named; by default it is named after the job and the time.
        runs_root: contains the folders with default names.

    Raises:
        ConfigError: the folder contains another run, a finished run, or other files.
    """
    if not is_rank_zero():
        if RUN_DIR_VARIABLE not in os.environ:
            raise ConfigError(
                FieldProblem(
                    "", "LOCAL_RANK is set; start a single process, without a launcher: it starts the other ranks"
                )
            )
        return RunDir.of(Path(os.environ[RUN_DIR_VARIABLE]))
    path = (requested or runs_root / f"{job.name}-{folder_timestamp()}").resolve()
    run_dir = RunDir.of(path)
    if path.is_file():
        raise ConfigError(FieldProblem("--run-dir", f"{path} is a file; name a folder"))
    if path.exists() and not run_dir.is_new:
        _require_same_run(run_dir, job)
    os.environ[RUN_DIR_VARIABLE] = str(path)
    return run_dir


def _require_same_run(run_dir: RunDir, job: JobSpec) -> None:
    if not run_dir.config_yaml.exists():
        raise ConfigError(
            FieldProblem("--run-dir", f"{run_dir.path} contains files but not those of a run; name a new folder")
        )
    if run_dir.has_checkpoint and (differing := _differing_fields(run_dir, job)):
        raise ConfigError(
            FieldProblem(
                "--run-dir",
                f"{run_dir.path} contains a run with other values of {', '.join(differing)}; name a new folder, or use "
                "the same document to resume",
            )
        )
    if is_finished(run_dir, job):
        raise ConfigError(FieldProblem("--run-dir", f"{run_dir.path} has a result already; name a new folder"))


def is_finished(run_dir: RunDir, job: JobSpec) -> bool:
    """Return whether the result exists, was sent to MLflow, and was registered if the document asks for it."""
    needs_registration = job.tracking is not None and job.tracking.register_as is not None
    is_registered = run_dir.registration.exists() or not needs_registration
    return run_dir.result.exists() and is_registered and not run_dir.tracking_journal.exists()


def _differing_fields(run_dir: RunDir, job: JobSpec) -> list[str]:
    """Return the dotted names of the fields in which a run's document differs from `job`.

    The run's document is validated first: an earlier version may have written it, with old names of fields, and
    without fields that are new. It contains the values that the run has measured.
    """
    completed = with_stored_values(job, run_dir)
    found = _differences(resolved(load_job([str(run_dir.config_yaml)])), resolved(completed))
    return sorted(name for name in found if name not in CHANGEABLE)


def _differences(earlier: Any, current: Any, path: str = "") -> Iterator[str]:
    if isinstance(earlier, dict) and isinstance(current, dict):
        for key in sorted({*earlier, *current}, key=str):
            yield from _differences(earlier.get(key), current.get(key), f"{path}.{key}" if path else str(key))
    elif earlier != current:
        yield path


def write_documents(
    run_dir: RunDir,
    document: dict[str, Any],
    job: JobSpec,
    inputs: Inputs,
    precision: RunPrecision | None = None,
    comment: str = "",
) -> None:
    """Write the documents of an attempt.

    - job.yaml: the document as the user wrote it, below the comment; after the first checkpoint it is kept.
    - config.yaml: the complete document.
    - inputs.json: where the data is, what the run started from, and its precision; these are kept when a run resumes.
    """
    if not (run_dir.job_yaml.exists() and run_dir.has_checkpoint):
        write_atomic(run_dir.job_yaml, write_yaml(document, comment))
    write_atomic(run_dir.config_yaml, write_yaml(resolved(with_stored_values(job, run_dir))))
    start = RunInputs(data=str(inputs.data), weights=inputs.weights, init_from=inputs.init_from, precision=precision)
    if run_dir.last_checkpoint.exists() and run_dir.inputs_json.exists():
        earlier = RunInputs.read(run_dir.inputs_json)
        start = earlier.model_copy(update={"data": start.data})
    elif run_dir.last_checkpoint.exists():
        start = start.model_copy(update={"precision": None})
    start.write(run_dir.inputs_json)


def require_same_data(run_dir: RunDir, report: DataReport) -> None:
    """Refuse to resume a run with other data than it was trained on.

    Raises:
        DataError: images or labels of a split have changed since an earlier attempt.
    """
    if not (run_dir.last_checkpoint.exists() and run_dir.data_report.exists()):
        return
    earlier = DataReportFile.read(run_dir.data_report)
    splits = [split for split in SPLITS if earlier.fingerprints.get(split) != report.fingerprints.get(split)]
    if splits:
        message = f"{report.root} has changed in {', '.join(splits)} since {run_dir.path} was trained on it"
        message += _change_of_skipped(earlier, report)
        raise DataError(FieldProblem("data.root", f"{message}; restore the earlier data, or name a new --run-dir"))


def _change_of_skipped(earlier: DataReportFile, report: DataReport) -> str:
    """Return a text about images that only one of two attempts skipped; empty if both skipped the same images."""
    before, now = {str(image["file"]) for image in earlier.skipped}, {image.file for image in report.skipped}
    changes = [f"{file} is skipped now" for file in sorted(now - before)]
    changes += [f"{file} was skipped then" for file in sorted(before - now)]
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return f" ({', '.join(changes[:3])}{more})" if changes else ""


def read_inputs(run_dir: RunDir) -> Inputs | None:
    """Return the content of inputs.json; None if the file is missing."""
    if not run_dir.inputs_json.exists():
        return None
    inputs = RunInputs.read(run_dir.inputs_json)
    return Inputs(Path(inputs.data), inputs.weights, inputs.init_from)


@contextmanager
def locked(run_dir: RunDir) -> Iterator[None]:
    """Lock the folder against other processes; the kernel releases the lock when this process ends, also by a kill.

    Raises:
        ConfigError: another process holds the lock, or the folder cannot be written.
    """
    try:
        run_dir.path.mkdir(parents=True, exist_ok=True)
        file = run_dir.lock.open("w")
    except OSError as error:
        message = f"{run_dir.path} cannot be written ({error.strerror}); name another folder"
        raise ConfigError(FieldProblem("--run-dir", message)) from error
    with file:
        try:
            # Not flock: data workers are forked, and one that outlives a killed run would keep the lock for seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                FieldProblem(
                    "--run-dir", f"{run_dir.path} is in use by another process; wait for it, or name a new folder"
                )
            ) from None
        yield
