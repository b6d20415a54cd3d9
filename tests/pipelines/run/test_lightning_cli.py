"""LightningCLI's configuration is the document, and its subcommands are the workflows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lightning.pytorch import Trainer

from pipelines.command_line.parsers import LIGHTNING_COMMANDS, parser_of
from pipelines.model import MultiTaskModel
from pipelines.run.lightning_cli import JobCLI
from pipelines.run.workflow import Parts
from pipelines.spec.job import JobSpec
from pipelines.spec.load import apply_override, validate_document
from pipelines.training.module import MultiTaskModule

Document = dict[str, Any]


class RecordingWorkflow:
    """Records the order of its calls; `run` raises `error` if there is one."""

    def __init__(self, command: str, model: MultiTaskModel, error: Exception | None = None) -> None:
        self.command = command
        self.model = model
        self.error = error
        self.calls: list[str] = []

    @contextmanager
    def set_up(self, job: JobSpec) -> Iterator[None]:
        self.job = job
        self.calls.append("set up")
        try:
            yield
        finally:
            self.calls.append("released")

    def build(self) -> Parts:
        self.calls.append("build")
        module = MultiTaskModule(self.job.model, self.model, self.job.seed_everything)
        return Parts(module, None, Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))

    def run(self, parts: Parts) -> None:
        self.calls.append("run")
        if self.error is not None:
            raise self.error


class CLIWithHooks(JobCLI):
    """A user's subclass."""

    def before_validate(self) -> None:
        assert isinstance(self.workflow, RecordingWorkflow)
        self.workflow.calls.append("before")

    def after_validate(self) -> None:
        assert isinstance(self.workflow, RecordingWorkflow)
        self.workflow.calls.append("after")


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_each_command_is_a_subcommand_that_runs_its_workflow(
    command: str, tiny_job: JobSpec, tiny_model: MultiTaskModel
) -> None:
    workflow = RecordingWorkflow(command, tiny_model)
    cli = JobCLI(workflow, tiny_job, {"run_dir": "runs/x"})
    assert workflow.calls == ["set up", "build", "run", "released"]
    assert cli.subcommand == command
    assert cli.config[command].run_dir == "runs/x"
    assert cli.config[command].model.optimizer.lr == tiny_job.model.optimizer.lr
    assert workflow.job == cli.job == tiny_job


def test_error_in_a_workflow_releases_what_it_set_up(tiny_job: JobSpec, tiny_model: MultiTaskModel) -> None:
    workflow = RecordingWorkflow("fit", tiny_model, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        JobCLI(workflow, tiny_job)
    assert workflow.calls[-1] == "released"


def test_hooks_of_lightning_are_called(tiny_job: JobSpec, tiny_model: MultiTaskModel) -> None:
    workflow = RecordingWorkflow("validate", tiny_model)
    CLIWithHooks(workflow, tiny_job, {"run_dir": "runs/x"})
    assert workflow.calls == ["set up", "build", "before", "run", "after", "released"]


def test_values_that_look_like_other_types_are_kept(small: Document, tiny_model: MultiTaskModel) -> None:
    document = apply_override(small, "tracking", {"experiment": "1e-3", "register_as": "null"})
    document = apply_override(document, "model.init_from", "on")
    sources = document["data"]["sources"]
    document["data"] = {**document["data"], "sources": {f"line.{name}": source for name, source in sources.items()}}
    job = validate_document(apply_override(document, "trainer.early_stopping", {"patience": 3}))
    workflow = RecordingWorkflow("fit", tiny_model)
    JobCLI(workflow, job)
    assert workflow.job == job


def test_help_of_lightning_lists_the_same_arguments(tiny_job: JobSpec, tiny_model: MultiTaskModel) -> None:
    cli = JobCLI(RecordingWorkflow("fit", tiny_model), tiny_job)
    help_text = cli._parser("fit").format_help()
    fields = parser_of("fit").format_help().partition("\ntrainer:\n")[2].splitlines()
    missing = [line for line in fields if line.strip().startswith("--") and line not in help_text]
    assert len(fields) > 200
    assert missing == []
