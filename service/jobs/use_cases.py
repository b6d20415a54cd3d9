"""The use cases of jobs. Each acts on behalf of a principal, and knows nothing of HTTP.

Changes of status follow `service.states.TRANSITIONS`, which the store checks for every writer in the transaction that
makes the change. A use case raises the errors of `service.jobs.errors` and `service.store.errors`.
"""

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.run_folder.files import remove_folder
from pipelines.tracking.mlflow_store import find_store
from pipelines.tracking.model_owners import is_hidden
from pipelines.tracking.registry import Registry
from service.datasets.resolution import usable_dataset
from service.datasets.usable import UsableDataset
from service.disk_space import require_free_space
from service.jobs.errors import InvalidJob, JobProblem, NotOver
from service.jobs.kinds.registry import job_kind
from service.jobs.submission import (
    JobSubmission,
    check_submission,
    check_variant,
    gpu_type_problems,
    resource_problems,
)
from service.jobs.supervisor_watch import SupervisorWatch
from service.jobs.waiting import waits_for
from service.principal import Principal
from service.resources import CPUS, GPUS, ResourceCounts
from service.settings import Settings
from service.states import JobStatus
from service.store.datasets import DatasetStore
from service.store.errors import NotEnded
from service.store.jobs import JobStore
from service.store.records import AttemptRecord, Job, NewJob
from service.store.sweep_records import SweepTrial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestKey:
    """Makes a submission repeatable: the same key with the same hash of the request always gives the same job."""

    key: str
    body_hash: str


@dataclass(frozen=True)
class JobQuery:
    """A selection of jobs, newest first, see `JobStore.page`."""

    statuses: Collection[JobStatus] = ()
    kinds: Collection[str] = ()
    name: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    before_number: int | None = None
    limit: int = 50


@dataclass(frozen=True)
class JobDetails:
    """A job with the details that views show.

    Attributes:
        waits_for: the reason why a queued job has not started yet.
        run_dir: its run folder, which may be missing.
        trial: the trial of a sweep that it runs, if any.
        mlflow_url: page of its run in MLflow, if it has one and MLflow has a web address.
    """

    job: Job
    config: dict[str, Any]
    attempts: list[AttemptRecord]
    waits_for: str | None
    run_dir: Path
    trial: SweepTrial | None = None
    mlflow_url: str | None = None


class Jobs:
    """The use cases over one store.

    Args:
        capacity: the resources that jobs may use in total.
        datasets: the data sets that documents name.

    Attributes:
        supervision: knows the active supervisor.
    """

    def __init__(self, store: JobStore, settings: Settings, capacity: ResourceCounts, datasets: DatasetStore) -> None:
        self._store, self._settings, self._capacity, self._datasets = store, settings, capacity, datasets
        self.supervision = SupervisorWatch(store, settings)

    def check(self, principal: Principal, submission: JobSubmission) -> NewJob:
        """Return the job that a submission would queue, without storing anything.

        Raises:
            InvalidJob: with all problems.
        """

        def find_dataset(reference: str) -> UsableDataset:
            return usable_dataset(reference, principal, self._datasets, self._settings)

        return check_submission(submission, self._settings, self._capacity, find_dataset)

    def check_variant(self, checked: NewJob, config: Mapping[str, Any]) -> NewJob:
        """Return a job that differs from one of `check` by its document; raises InvalidJob with all problems."""
        return check_variant(checked, config, self._settings, self._capacity)

    def check_models(self, principal: Principal, submission: JobSubmission) -> None:
        """Check that the models which a document names are not those of tenants that the principal does not see.

        Raises:
            InvalidJob: with a problem for each name; a model of another tenant does not seem to exist.
            RegistryError: the model registry does not answer.
        """
        names = job_kind(submission.kind).models(submission.config)
        if principal.visible_tenant is None or not names:
            return
        registry = Registry(find_store(self._settings.root))
        problems = [
            JobProblem(path, _hidden_model(path, name)).below(*submission.config_at)
            for path, name in names.items()
            if is_hidden(registry, name, principal.tenant)
        ]
        if problems:
            raise InvalidJob(problems)

    def submit(
        self, principal: Principal, submission: JobSubmission, key: RequestKey | None = None
    ) -> tuple[JobDetails, bool]:
        """Check a submission and queue it; return the job, and False if its key had already created it.

        Raises:
            InvalidJob: with all problems.
            KeyReused: the key belongs to another request.
        """
        if (earlier := self.submitted(principal, key)) is not None:
            return earlier, False
        self.check_models(principal, submission)
        return self.queue(principal, self.check(principal, submission), key)

    def submitted(self, principal: Principal, key: RequestKey | None) -> JobDetails | None:
        """Return the job that an earlier request with a key has created; None if there is none, or no key.

        A repeated request gets its job whatever has changed since: the disk, the data, the models, or the capacity.

        Raises:
            KeyReused: the key belongs to another request.
        """
        job = None if key is None else self._store.submitted(key.key, key.body_hash, principal)
        return None if job is None else self._details(principal, job)

    def queue(self, principal: Principal, new: NewJob, key: RequestKey | None = None) -> tuple[JobDetails, bool]:
        """Queue a job that `check` returned; return as `submit` does.

        Raises:
            KeyReused: the key belongs to another request.
            DiskAlmostFull: the disk has too little free space for another job.
        """
        with suppress(OSError):  # readiness reports a root that cannot be read
            require_free_space(self._settings)
        if key is None:
            job, is_new = self._store.submit(new, by=principal)
        else:
            job, is_new = self._store.submit(new, key.key, key.body_hash, principal)
        if is_new:
            log.info("job %s: submitted by %s", job.id, principal.name)
        return self._details(principal, job), is_new

    def find(self, principal: Principal, job_id: str) -> Job:
        """Return a job; raises NotFound, also for a job of a tenant that the principal does not see."""
        return self._store.get(job_id, principal.visible_tenant)

    def list_jobs(self, principal: Principal, query: JobQuery) -> tuple[list[Job], bool]:
        """Return the jobs of a query, newest first, and whether more follow."""
        found = self._store.page(**{**asdict(query), "limit": query.limit + 1}, tenant=principal.visible_tenant)
        return found[: query.limit], len(found) > query.limit

    def view(self, principal: Principal, job_id: str) -> JobDetails:
        """Return a job with all details; raises NotFound."""
        return self._details(principal, self.find(principal, job_id))

    def change_priority(self, principal: Principal, job_id: str, priority: int) -> JobDetails:
        """Change the priority of a queued job; raises NotFound or NotQueued."""
        return self._details(principal, self._store.set_priority(job_id, priority, principal))

    def cancel(self, principal: Principal, job_id: str) -> tuple[JobDetails, bool]:
        """Cancel a job; return it, and False if it had already been cancelled.

        A queued job is cancelled at once. The attempt of an active one is stopped by the supervisor first.

        Raises:
            NotFound: no job has this id.
            AlreadyEnded: it has succeeded or failed.
        """
        is_new = self.find(principal, job_id).status is not JobStatus.CANCELLED
        job = self._store.request_cancel(job_id, principal)
        if is_new:
            log.info("job %s: cancelled by %s", job_id, principal.name)
        return self._details(principal, job), is_new

    def retry(self, principal: Principal, job_id: str, key: RequestKey | None = None) -> tuple[JobDetails, bool]:
        """Queue a new job with the document, priority and resources of one that has ended; return as `submit` does.

        The document is not checked again: the trainer does that, and a data set may have been repaired meanwhile.

        Raises:
            NotFound: no job has this id.
            NotOver: the job has not ended.
            InvalidJob: this server no longer has the resources.
            KeyReused: the key belongs to another request.
        """
        if (earlier := self.submitted(principal, key)) is not None:
            return earlier, False
        job = self.find(principal, job_id)
        if not job.status.is_terminal:
            raise NotOver(job)
        problems = resource_problems({CPUS: job.cpus, GPUS: job.gpus}, self._capacity, job.num_nodes)
        if problems := problems or gpu_type_problems(job.gpu_type, job.gpus, self._capacity, job.num_nodes):
            raise InvalidJob(problems)
        config, used = self._store.config(job_id), self._datasets.of_job(job.id)
        new = NewJob(
            job.name, config, job.priority, job.cpus, job.gpus, job.timeout_s, job.id, job.kind,
            dataset_id=None if used is None else used.id, tenant=job.tenant, num_nodes=job.num_nodes,
            gpu_type=job.gpu_type,
        )  # fmt: skip
        return self.queue(principal, new, key)

    def delete(self, principal: Principal, job_id: str) -> None:
        """Delete a job that has ended, with its run folder; models that it registered are kept.

        Raises:
            NotFound: no job has this id.
            NotEnded: it has not ended, or its final status has not reached MLflow yet.
        """
        job = self.find(principal, job_id)
        if not job.is_settled:
            raise NotEnded(job)
        # The folder first: after a crash between both steps the job still exists and can be deleted again.
        remove_folder(self._settings.run_dir(job.id))
        self._store.delete(job.id, principal)
        log.info("job %s: deleted by %s", job_id, principal.name)

    def _details(self, principal: Principal, job: Job) -> JobDetails:
        return JobDetails(
            job,
            self._store.config(job.id),
            self._store.attempts(job.id),
            waits_for(job, self._store, self._datasets, self.supervision, self._capacity, principal),
            self._settings.run_dir(job.id),
            self._store.trial(job.id),
            None if job.mlflow_run_id is None else find_store(self._settings.root).page_of_run(job.mlflow_run_id),
        )


def _hidden_model(path: tuple[str, ...], name: str) -> str:
    if path[-1] == "register_as":
        return f"got {name!r}, which is used by others; choose another name"
    return f"got {name!r}, which is not registered; GET /v1/models lists all"
