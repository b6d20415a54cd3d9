"""The LightningCLI of a job: its arguments are the document's schema, and it makes trainer, module and loaders."""

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from pipelines.run.attempt import Attempt
from pipelines.spec.job import JobSpec
from pipelines.spec.load import resolved


class JobCLI(LightningCLI):
    """Makes the parts of an attempt from its document; there is no second list of arguments or defaults.

    The document was validated before (`pipelines.spec.load`), where errors are told field by field.

    Attributes:
        trainer, model, datamodule: made for the attempt.
    """

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        super().__init__(
            args=resolved(attempt.job),
            run=False,
            seed_everything_default=False,
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take an argument for each field of the document; Lightning itself adds `seed_everything`."""
        parser.add_class_arguments(JobSpec, as_group=False, skip={"seed_everything"})

    def instantiate_classes(self) -> None:
        """Make the module first: the trainer's callbacks keep its weights."""
        job = self.attempt.job
        # A checkpoint replaces all weights: a run goes on without a network, and without the file that it began from.
        is_new = not self.attempt.run_dir.last_checkpoint.exists()
        self.model = self.attempt.module(job.model, pretrained=is_new)
        self.datamodule = self.attempt.data(job.data)
        self.trainer = self.attempt.trainer(job.trainer, self.model)
