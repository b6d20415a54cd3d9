"""The contract of a command that works on a run: set up, build the parts, run."""

from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from lightning.pytorch import Trainer

from pipelines.data.loading.datamodule import JobData
from pipelines.spec.job import JobSpec
from pipelines.training.module import MultiTaskModule


class Parts(NamedTuple):
    """The objects that a command runs with; `data` is None if the command reads no data of a job."""

    module: MultiTaskModule
    data: JobData | None
    trainer: Trainer


class Workflow(Protocol):
    """One command on one run. `build` and `run` are called inside `set_up`, in this order.

    Attributes:
        command: fit, validate, test or predict.
    """

    command: str

    def set_up(self, job: JobSpec) -> AbstractContextManager[None]:
        """Check the machine and the data, and hold what the command needs (locks, logs, processes) until it ends."""

    def build(self) -> Parts:
        """Return the parts for the job."""

    def run(self, parts: Parts) -> None:
        """Execute the command with the parts."""
