"""The use cases of sweeps. Each acts on behalf of a principal, and knows nothing of HTTP.

The API stores sweeps and cancel requests; the supervisor does everything else (`service.supervisor.sweep_runner`).
"""

import logging
from dataclasses import dataclass

from pipelines.spec.load import Document
from pipelines.spec.sweep import SweepSpec
from pipelines.spec.sweep_documents import trial_document, trial_name
from service.jobs.submission import JobSubmission
from service.jobs.use_cases import Jobs, RequestKey
from service.principal import Principal
from service.states import SweepStatus
from service.store.sweep_records import NewSweep, Sweep, SweepTrial
from service.store.sweeps import SweepStore
from service.sweeps.checks import check_sweep
from service.sweeps.trial_results import best_trial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepDetails:
    """A sweep with its document and its trials."""

    sweep: Sweep
    spec: SweepSpec
    trials: list[SweepTrial]

    @property
    def best(self) -> SweepTrial | None:
        """The best trial so far, of those that meet all constraints."""
        return best_trial(self.spec, self.trials)

    def document_of(self, trial: SweepTrial) -> Document:
        """Return the job document of a trial."""
        return trial_document(self.spec, trial.params, trial_name(self.sweep.name, trial.number))


class Sweeps:
    """The use cases over one store.

    Args:
        jobs: checks the documents of trials.
    """

    def __init__(self, store: SweepStore, jobs: Jobs) -> None:
        self._store, self._jobs = store, jobs

    def check(self, principal: Principal, submission: JobSubmission) -> NewSweep:
        """Return the sweep that a submission would start, see `check_sweep`."""
        return check_sweep(principal, submission, self._jobs)

    def submitted(self, principal: Principal, key: RequestKey | None) -> SweepDetails | None:
        """Return the sweep that an earlier request with a key has created, if any; raises KeyReused."""
        sweep = None if key is None else self._store.submitted(key.key, key.body_hash, principal)
        return None if sweep is None else self._details(sweep)

    def start(self, principal: Principal, new: NewSweep, key: RequestKey | None = None) -> tuple[SweepDetails, bool]:
        """Store a sweep that `check` returned; return it, and False if its key had already created it."""
        sweep, is_new = self._store.submit(
            new, None if key is None else key.key, None if key is None else key.body_hash, principal
        )
        if is_new:
            log.info("sweep %s: submitted by %s", sweep.id, principal.name)
        return self._details(sweep), is_new

    def list_sweeps(self, principal: Principal, before_number: int | None, limit: int) -> tuple[list[Sweep], bool]:
        """Return sweeps, newest first, and whether more follow."""
        found = self._store.page(before_number=before_number, limit=limit + 1, tenant=principal.visible_tenant)
        return found[:limit], len(found) > limit

    def view(self, principal: Principal, sweep_id: str) -> SweepDetails:
        """Return a sweep with its trials; raises SweepNotFound."""
        return self._details(self._store.get(sweep_id, principal.visible_tenant))

    def cancel(self, principal: Principal, sweep_id: str) -> tuple[SweepDetails, bool]:
        """Cancel a sweep with its active trials; return it, and False if it had already been cancelled.

        Raises:
            SweepNotFound: no sweep has this id.
            SweepEnded: it has succeeded or failed.
        """
        is_new = self._store.get(sweep_id, principal.visible_tenant).status is not SweepStatus.CANCELLED
        return self._details(self._store.request_cancel(sweep_id, principal)), is_new

    def delete(self, principal: Principal, sweep_id: str) -> None:
        """Delete a sweep that has ended; the jobs of its trials are kept.

        Raises:
            SweepNotFound: no sweep has this id.
            SweepNotEnded: it is running, or its final status has not reached MLflow yet.
        """
        self._store.delete(sweep_id, principal)
        log.info("sweep %s: deleted by %s", sweep_id, principal.name)

    def _details(self, sweep: Sweep) -> SweepDetails:
        spec = SweepSpec.model_validate(self._store.config(sweep.id))
        return SweepDetails(sweep, spec, self._store.trials(sweep.id))
