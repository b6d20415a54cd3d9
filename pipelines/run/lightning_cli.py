"""LightningCLI with the job document as its configuration."""

import inspect
from argparse import RawDescriptionHelpFormatter
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from pipelines.command_line.arguments import add_document_fields
from pipelines.command_line.parsers import COMMANDS, LIGHTNING_COMMANDS, add_options
from pipelines.run.workflow import Parts, Workflow
from pipelines.spec.job import JobSpec
from pipelines.spec.load import resolved
from pipelines.training.trainer import quiet_lightning


class JobParser(LightningArgumentParser):
    """Parser of the subcommand `command`; without one, the parser that holds all subcommands."""

    def __init__(self, *args: Any, command: str = "", **settings: Any) -> None:
        self.command = command
        super().__init__(*args, formatter_class=RawDescriptionHelpFormatter, **settings)


class JobCLI(LightningCLI):
    """Builds trainer, module and data of a job, and runs one of `fit | validate | test | predict`.

    The parser's arguments are the fields of the document and the command's options. `pipelines.cli` has parsed the
    command line and validated the document before torch was imported, where every problem is reported by its field.
    Here the complete document becomes `config`, from which the objects are built.

    Args:
        workflow: what the subcommand does.
        job: the validated document.
        options: values of the command's options, by name.

    Attributes:
        job: the document that `config` holds.
        model, datamodule, trainer: the objects; `datamodule` is None if no data set is read.
    """

    def __init__(self, workflow: Workflow, job: JobSpec, options: Mapping[str, Any] | None = None) -> None:
        self.workflow = workflow
        quiet_lightning()
        with ExitStack() as self._until_the_end:
            super().__init__(
                args={"subcommand": workflow.command, workflow.command: {**(options or {}), **resolved(job)}},
                parser_class=JobParser,
                parser_kwargs={name: {"command": name, "description": COMMANDS[name]} for name in LIGHTNING_COMMANDS},
                save_config_callback=None,
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the subcommands. No argument of the trainer's methods is an option: the run folder decides them."""
        return {name: set(inspect.signature(getattr(Trainer, name)).parameters) for name in LIGHTNING_COMMANDS}

    def init_parser(self, **settings: Any) -> LightningArgumentParser:
        """Return an empty parser: `--config` is one of the command's options, not jsonargparse's."""
        return self.parser_class(**settings)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add nothing: `seed_everything` is a field of the document."""

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the fields of the document."""
        add_document_fields(parser, skip={"data.root"})  # an option of this name exists

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the command's options."""
        assert isinstance(parser, JobParser)
        add_options(parser, parser.command)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Set `config` from the validated document; the command line was parsed before."""
        self.config = parser.parse_object(args)
        content = self.config[self.workflow.command].as_dict()
        self.job = JobSpec.model_validate({name: content[name] for name in JobSpec.model_fields})

    def before_instantiate_classes(self) -> None:
        """Set up what the command needs; it is released when the command ends, even by an error."""
        self._until_the_end.enter_context(self.workflow.set_up(self.job))

    def instantiate_classes(self) -> None:
        """Build the objects from the document, since jsonargparse cannot use checkpoints and data sets."""
        self.config_init = self.config
        self.model, self.datamodule, self.trainer = self.workflow.build()

    def fit(self, **objects: Any) -> None:
        """Run the subcommand; Lightning calls this with the objects."""
        self.workflow.run(Parts(self.model, self.datamodule, self.trainer))

    validate = test = predict = fit
