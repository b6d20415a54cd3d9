"""Protection of the jobs that retention never deletes: those that other jobs need, and sources of registered models."""

import json
from functools import cached_property

from pipelines.base.errors import RegistryError
from pipelines.run_folder.layout import RunDir
from pipelines.tracking.registry import Registry
from service.settings import Settings
from service.store.retention import EndedJob, RetentionStore


class Protection:
    """Answers whether an ended job is still needed. MLflow is asked once, and only if a rule could delete a job.

    Attributes:
        problem: the reason why MLflow could not be asked; every job that may have a model is protected then.
    """

    def __init__(self, settings: Settings, store: RetentionStore, registry: Registry) -> None:
        self.problem: str | None = None
        self._settings, self._store, self._registry = settings, store, registry

    def is_needed(self, job: EndedJob) -> bool:
        """Return whether the run folder may not be deleted: see `is_named`, or it is the source of a model."""
        return self.is_named(job) or self._has_model(job)

    def is_named(self, job: EndedJob) -> bool:
        """Return whether the document of a job that waits or runs names the run, for example to start from it."""
        return job.id in self._named

    def is_named_now(self, job_id: str) -> bool:
        """Return whether a job that was submitted since the first call of `is_named` names the run."""
        return self._store.is_named(job_id, self.newest_job)

    @property
    def newest_job(self) -> int:
        """The number of the newest job that `is_named` knows."""
        return self._waiting[1]

    @cached_property
    def _named(self) -> str:
        return json.dumps(self._waiting[0])

    @cached_property
    def _waiting(self) -> tuple[list[object], int]:
        return self._store.waiting_documents()

    def _has_model(self, job: EndedJob) -> bool:
        registered = RunDir.of(self._settings.run_dir(job.id)).registration.exists()
        if job.mlflow_run_id is None and not registered:
            return False
        if self._runs_of_models is None:
            return True
        # Registered without a run of the service, for example after `pyramidion fit` in the same folder: kept.
        return job.mlflow_run_id in self._runs_of_models if job.mlflow_run_id is not None else registered

    @cached_property
    def _runs_of_models(self) -> frozenset[str] | None:
        """The MLflow runs of all registered versions; None if they are not known."""
        if self._registry.store.is_missing:
            return frozenset()
        try:
            return self._registry.runs_of_models()
        except RegistryError as error:
            self.problem = f"{error}; jobs that may have a registered model are kept"
            return None
