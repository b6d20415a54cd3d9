"""The command, environment and folder of an attempt."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import read_document
from service.settings import Settings
from service.states import JobStatus
from service.store.records import Job
from service.supervisor.attempts import attempt_spec, write_document

JOB = Job(
    number=1, id="a" * 12, name="j", status=JobStatus.STARTING, stage=None, priority=0, cpus=3, gpus=0,
    timeout_s=None, retry_of=None, created_at=0.0, started_at=0.0, finished_at=None, cancel_requested_at=None,
    not_before=0.0, attempt=2, failures=0, lease_owner="me", progress=None, events_offset=0, failure_kind=None,
    failure_message=None, mlflow_run_id=None, mlflow_status=None,
)  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    url = "postgresql://user:secret@db/x"
    return Settings(root=tmp_path / "root", data_roots=(tmp_path / "a", tmp_path / "b"), database_url=url)


def test_command_is_the_trainer_in_the_jobs_run_folder(settings: Settings) -> None:
    spec = attempt_spec(settings, JOB, (), None)
    run_dir = settings.root / "jobs" / JOB.id
    assert spec.folder == spec.cwd == run_dir / "attempts" / "2"
    assert spec.command[1:4] == ("-m", "pipelines.cli", "fit")
    assert spec.command[4:] == ("--config", str(run_dir / "job.yaml"), "--run-dir", str(run_dir))
    assert spec.grace_s == settings.cancel_grace_s


def test_command_of_an_unknown_kind_is_an_error_that_names_it(settings: Settings) -> None:
    with pytest.raises(ValueError, match=r"jobs of the kind 'dance' are not known to this version, which knows fit"):
        attempt_spec(settings, replace(JOB, kind="dance"), (), None)


def test_environment_contains_folders_threads_and_the_run(settings: Settings, tmp_path: Path) -> None:
    environment = attempt_spec(settings, JOB, ("GPU-1", "GPU-2"), "run7").environment
    assert environment["PYRAMIDION_RUNS_ROOT"] == str(tmp_path / "root")
    roots = [tmp_path / "a", tmp_path / "b", settings.datasets_dir]
    assert environment["PYRAMIDION_DATA_ROOTS"] == ":".join(map(str, roots))
    assert environment["PYRAMIDION_WEIGHTS_ROOTS"]
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert environment["MLFLOW_RUN_ID"] == "run7"
    assert environment["PYTHONSAFEPATH"] == "1"


def test_resources_and_devices_are_left_to_the_executor(settings: Settings) -> None:
    spec = attempt_spec(settings, JOB, ("GPU-1", "GPU-2"), None)
    assert (spec.resources, spec.devices) == ({"cpus": 3, "gpus": 0}, ("GPU-1", "GPU-2"))


def test_counts_of_a_job_are_those_of_each_node(settings: Settings) -> None:
    spec = attempt_spec(settings, replace(JOB, gpus=1, num_nodes=2), (), None)
    assert (spec.num_nodes, spec.resources) == (2, {"cpus": 6, "gpus": 2, "nodes": 2})
    assert spec.resources_per_node == {"cpus": 3, "gpus": 1}
    assert spec.environment["OMP_NUM_THREADS"] == "3"


def test_document_is_written_as_it_was_submitted(tmp_path: Path) -> None:
    asked = {"name": "j", "unfreeze": {"0": "none"}, "lr": 1e-3, "text": "1e-3", "tracking": None}
    run_dir = RunDir.of(tmp_path / "run")
    write_document(run_dir, asked)
    assert read_document(str(run_dir.job_yaml)) == asked


def test_document_that_a_recipe_has_completed_is_kept_once_the_run_has_trained(tmp_path: Path) -> None:
    run_dir, short = RunDir.of(tmp_path), {"recipe": "finetune", "data": {"root": "cells"}}
    write_document(run_dir, short)
    run_dir.job_yaml.write_text("name: completed\n")
    write_document(run_dir, short)
    assert read_document(str(run_dir.job_yaml)) == short
    run_dir.job_yaml.write_text("name: completed\n")
    run_dir.last_checkpoint.parent.mkdir()
    run_dir.last_checkpoint.touch()
    write_document(run_dir, short)
    assert read_document(str(run_dir.job_yaml)) == {"name": "completed"}
