"""Errors of use cases, in addition to those of `service.store.errors`.

JobError
├── InvalidJob   the document or the resources are invalid; `problems` lists all problems
└── NotOver      only a job that has ended can be retried
"""

from collections.abc import Iterable
from dataclasses import dataclass

from service.store.records import Job


@dataclass(frozen=True)
class JobProblem:
    """One mistake in a submission.

    Attributes:
        path: keys from the submission, or from its document, to the invalid value: `("config", "model", "neck")`.
        message: the value, the mistake, and a remedy.
    """

    path: tuple[str, ...]
    message: str

    def below(self, *keys: str) -> "JobProblem":
        """Return the problem of a document that is at a path of the submission."""
        return JobProblem((*keys, *self.path), self.message)


class JobError(Exception):
    """Base of the errors of use cases."""


class InvalidJob(JobError):
    """The submitted job is invalid."""

    def __init__(self, problems: Iterable[JobProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{'.'.join(problem.path)}: {problem.message}" for problem in self.problems))


class NotOver(JobError):
    """The job has not ended, so it cannot be retried."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} is {job.status}; a job can be retried once it has ended")
        self.job = job
