"""The contract of kinds of jobs, for every row of the registry."""

import importlib.util
import sys
from pathlib import Path

import pytest

from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import RunDir
from service.jobs.errors import InvalidJob
from service.jobs.kinds.base import JobKind
from service.jobs.kinds.registry import JOB_KINDS, job_kind
from service.settings import Settings

CAPACITY = {"cpus": 8, "gpus": 2}

over_all_kinds = pytest.mark.parametrize("kind", JOB_KINDS.values(), ids=JOB_KINDS)


@over_all_kinds
def test_schemas_describe_the_document_and_the_result(kind: JobKind) -> None:
    assert job_kind(kind.name) is kind
    assert kind.document.__doc__
    assert kind.document.model_json_schema()["additionalProperties"] is False, "unknown keys are refused"
    assert kind.result.model_json_schema()["properties"]["schema_version"]


@over_all_kinds
def test_invalid_document_is_refused_with_its_fields(kind: JobKind, tmp_path: Path) -> None:
    with pytest.raises(InvalidJob) as raised:
        kind.check({"unknown": 1}, Settings(root=tmp_path), CAPACITY)
    problems = {problem.path: problem.message for problem in raised.value.problems}
    assert problems["unknown",].startswith("unknown key")
    assert all(problems.values())


@over_all_kinds
def test_attempt_is_a_command_on_the_run_folder(kind: JobKind, tmp_path: Path) -> None:
    program, option, module, *arguments = kind.command(RunDir.of(tmp_path))
    assert (program, option) == (sys.executable, "-m")
    assert importlib.util.find_spec(module) is not None
    assert str(tmp_path) in arguments


@over_all_kinds
def test_resources_fit_the_server_and_nothing_else_is_named(kind: JobKind) -> None:
    resources = kind.default_resources(CAPACITY)
    assert resources.keys() == CAPACITY.keys()
    assert all(0 <= number <= CAPACITY[name] for name, number in resources.items())
    assert (kind.dataset({}), kind.models({})) == (None, {})


@over_all_kinds
def test_complete_run_folder_has_a_result(kind: JobKind, tmp_path: Path) -> None:
    run_dir = RunDir.of(tmp_path)
    assert not kind.has_result(run_dir)
    write_atomic(run_dir.result, "{")
    assert not kind.has_result(run_dir)
    write_atomic(run_dir.result, "{}")
    assert kind.has_result(run_dir)


def test_missing_folder_of_a_data_set_is_refused_without_the_paths_of_the_server(tmp_path: Path) -> None:
    config = {"model": "shapes", "dataset": "shapes@0123456789ab", "folder": "0123/files/nowhere"}
    with pytest.raises(InvalidJob) as raised:
        job_kind("batch_prediction").check(config, Settings(root=tmp_path, data_roots=[tmp_path]), CAPACITY)
    (problem,) = raised.value.problems
    assert problem.path == ("folder",)
    assert problem.message.startswith("not found in the data set shapes@0123456789ab; name a folder in it")
    assert str(tmp_path) not in problem.message
