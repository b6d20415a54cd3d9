"""One round of all sweeps: read the results of trials, prune some, and put the next ones into the queue.

Trials are ordinary jobs, which the supervisor's loop runs. This module only writes what `store.sweep_leases` fences, so
it can be killed at any instruction, and the next supervisor continues from the database.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress

from pipelines.base.errors import ConfigError
from pipelines.base.quantities import quantity
from pipelines.run_folder.layout import RunDir
from pipelines.spec.sweep import SweepSpec
from pipelines.spec.sweep_documents import trial_document, trial_name
from service.disk_space import DiskAlmostFull, require_free_space
from service.jobs.errors import InvalidJob
from service.jobs.submission import check_variant
from service.principal import KeyLimits, Principal
from service.resources import CPUS, GPUS, NODES, ResourceCounts
from service.settings import Settings
from service.states import JobStatus, SweepStatus, TrialState
from service.store.errors import AlreadyEnded, DatasetNotFound, NotFound, QueueLimit, StoreUnavailable, Superseded
from service.store.jobs import JobStore
from service.store.records import Job, NewJob
from service.store.sweep_leases import LeasedSweepStore
from service.store.sweep_records import Sweep, SweepTrial
from service.store.sweeps import SweepStore
from service.supervisor.loop import one_line
from service.supervisor.sweep_tracking import SweepTracking
from service.sweeps.study import suggest, to_prune
from service.sweeps.trial_results import TrialUnusable, failures_in_a_row, read_numbers

log = logging.getLogger(__name__)

MAX_MESSAGE = 1000
ANY_CAPACITY: ResourceCounts = dict.fromkeys((CPUS, GPUS, NODES), 10**6)
"""The capacity was checked at the submission; a trial that does not fit a smaller cluster waits, as other jobs do."""


class SweepRunner:
    """Advances sweeps, one at a time.

    Args:
        tracking: their MLflow runs.
    """

    def __init__(
        self,
        settings: Settings,
        jobs: JobStore,
        sweeps: SweepStore,
        leased: LeasedSweepStore,
        tracking: SweepTracking,
    ) -> None:
        self._settings, self._jobs, self._sweeps, self._leased = settings, jobs, sweeps, leased
        self._tracking = tracking
        self._replayed: dict[str, int] = {}
        self._errors: dict[str, str] = {}

    def round(self) -> None:
        """Advance every running sweep as far as possible without waiting; errors of one do not affect others.

        Raises:
            Superseded: another supervisor has taken over.
            StoreUnavailable: the database cannot be used at the moment.
        """
        for sweep in self._leased.running():
            try:
                self._advance(sweep)
                self._errors.pop(sweep.id, None)
            except (Superseded, StoreUnavailable):
                raise
            except Exception as error:
                self._report(sweep, error)
        self._tracking.settle(self._sweeps)

    def _report(self, sweep: Sweep, error: Exception) -> None:
        """Log an error once, and make it the message of the sweep, which stays `running` until it is cancelled."""
        if self._errors.get(sweep.id) == str(error):
            return
        log.exception("sweep %s: %s; it is tried again every second", sweep.id, error)
        self._errors[sweep.id] = str(error)
        if not sweep.is_stopping:
            message = f"an error delays the sweep, which tries again every second: {one_line(error)}"
            self._leased.set_message(sweep, message[:MAX_MESSAGE])

    def _advance(self, sweep: Sweep) -> None:
        # The jobs first: the events of those that have ended are complete.
        jobs = self._leased.jobs(sweep)
        if sweep.is_stopping:
            self._stop(sweep, jobs)
            return
        spec = SweepSpec.model_validate(self._sweeps.config(sweep.id))
        trials = self._leased.record_reports(sweep, spec.metric or "")
        self._tracking.follow(sweep, spec, trials, jobs)
        ended = [self._end_if_over(sweep, trial, jobs) for trial in trials if trial.state.is_active]
        if any(ended):
            trials = self._leased.trials(sweep)
        if len(failed := failures_in_a_row(trials)) >= spec.max_failures:
            self._fail(sweep, failed)
        elif len(trials) == spec.trials and not any(trial.state.is_active for trial in trials):
            self._finish_all(sweep, trials)
        else:
            self._prune(sweep, spec, trials, jobs)
            self._start_trials(sweep, spec, trials)

    def _stop(self, sweep: Sweep, jobs: Mapping[str, Job]) -> None:
        """End a sweep that was cancelled or is failing, once its trials have ended.

        A document or a result that cannot be read, which may be the reason of the request, does not prevent the end.
        """
        active = [trial for trial in self._sweeps.trials(sweep.id) if trial.state.is_active]
        self._cancel(sweep, active, jobs)
        ended = [self._end_stopped(sweep, trial, jobs) for trial in active]
        if not all(ended):
            return
        if sweep.cancel_requested_at is not None:
            self._finish(sweep, SweepStatus.CANCELLED, None)
        else:
            self._finish(sweep, SweepStatus.FAILED, sweep.message)

    def _end_stopped(self, sweep: Sweep, trial: SweepTrial, jobs: Mapping[str, Job]) -> bool:
        """Record the end of a trial of a stopping sweep; return True if it has ended."""
        try:
            return self._end_if_over(sweep, trial, jobs)
        except (Superseded, StoreUnavailable):
            raise
        except Exception as error:  # whatever the error is, the sweep ends
            log.exception("sweep %s: the result of trial %d is lost: %s", sweep.id, trial.number, error)
            message = f"job {trial.job_id} has succeeded, but its result cannot be read: {one_line(error)}"
            self._leased.end_trial(sweep, trial.number, TrialState.FAILED, message=message[:MAX_MESSAGE])
            return True

    def _end_if_over(self, sweep: Sweep, trial: SweepTrial, jobs: Mapping[str, Job]) -> bool:
        """Record the end of a trial whose job has ended; return True if it has."""
        job = jobs.get(trial.job_id or "")
        if job is None:
            message = "its job was deleted before its result was read"
            self._leased.end_trial(sweep, trial.number, TrialState.FAILED, message=message)
        elif job.status is JobStatus.SUCCEEDED:
            self._complete(sweep, trial, job)
        elif job.status is JobStatus.FAILED:
            message = f"job {job.id} has failed: {job.failure_message}"[:MAX_MESSAGE]
            self._leased.end_trial(sweep, trial.number, TrialState.FAILED, message=message)
        elif job.status is JobStatus.CANCELLED:
            is_pruned = trial.state is TrialState.PRUNING
            self._leased.end_trial(sweep, trial.number, TrialState.PRUNED if is_pruned else TrialState.CANCELLED)
        else:
            return False
        return True

    def _complete(self, sweep: Sweep, trial: SweepTrial, job: Job) -> None:
        spec = SweepSpec.model_validate(self._sweeps.config(sweep.id))
        try:
            numbers = read_numbers(spec, RunDir.of(self._settings.run_dir(job.id)).result)
        except TrialUnusable as error:
            message = f"job {job.id} has succeeded, but {error}"[:MAX_MESSAGE]
            self._leased.end_trial(sweep, trial.number, TrialState.FAILED, message=message)
            return
        self._leased.end_trial(sweep, trial.number, TrialState.COMPLETE, value=numbers.value, limited=numbers.limited)
        log.info("sweep %s: trial %d has completed with %s = %.6g", sweep.id, trial.number, spec.metric, numbers.value)

    def _cancel(self, sweep: Sweep, trials: Sequence[SweepTrial], jobs: Mapping[str, Job]) -> None:
        """Request that the jobs of trials stop; the supervisor's loop does it as for any cancelled job."""
        by = Principal(f"sweep {sweep.id}", sweep.tenant, frozenset())
        for trial in trials:
            job = jobs.get(trial.job_id or "")
            if job is not None and job.cancel_requested_at is None:
                with suppress(AlreadyEnded, NotFound):
                    self._jobs.request_cancel(job.id, by)

    def _prune(self, sweep: Sweep, spec: SweepSpec, trials: Sequence[SweepTrial], jobs: Mapping[str, Job]) -> None:
        pruning = [trial for trial in trials if trial.state is TrialState.PRUNING]
        num_reports = sum(len(trial.reports) for trial in trials)
        if self._replayed.get(sweep.id) != num_reports:
            for trial in to_prune(spec, trials):
                last = trial.reports[-1]
                after = quantity(last.epoch + 1, "epoch")
                message = f"pruned: {spec.metric} = {last.value:.6g} after {after} is worse than others"
                self._leased.request_pruning(sweep, trial.number, message)
                log.info("sweep %s: trial %d is %s", sweep.id, trial.number, message)
                pruning.append(trial)
            self._replayed[sweep.id] = num_reports
        self._cancel(sweep, pruning, jobs)

    def _start_trials(self, sweep: Sweep, spec: SweepSpec, trials: Sequence[SweepTrial]) -> None:
        """Put trials into the queue until `parallel` are active; wait if a limit does not allow it."""
        waits_for: str | None = None
        while (
            len(trials) < spec.trials
            and sum(trial.state.is_active for trial in trials) < spec.parallel
            and len(failures_in_a_row(trials)) < spec.max_failures
        ):
            try:
                if not self._start_trial(sweep, spec, trials):
                    return
            except (QueueLimit, DiskAlmostFull) as error:
                waits_for = f"the next trial waits: {error}"
                break
            except DatasetNotFound as error:
                self._leased.fail(sweep, f"the next trial cannot start: {error}")
                return
            trials = self._leased.trials(sweep)
        self._leased.set_message(sweep, waits_for)

    def _start_trial(self, sweep: Sweep, spec: SweepSpec, trials: Sequence[SweepTrial]) -> bool:
        """Start one trial; return False if the sweep was stopped meanwhile."""
        number, params = len(trials), suggest(spec, trials)
        # The data set of the sweep, and its resources, were checked when it was submitted.
        like = NewJob(
            sweep.name, {}, sweep.priority, sweep.cpus, sweep.gpus, sweep.timeout_s, dataset_id=sweep.dataset_id
        )
        try:
            document = trial_document(spec, params, trial_name(sweep.name, number))
            new = check_variant(like, document, self._settings, ANY_CAPACITY)
        except (ConfigError, InvalidJob) as error:
            message = f"its document is invalid: {error}"[:MAX_MESSAGE]
            self._leased.add_invalid_trial(sweep, number, params, message)
            return True
        require_free_space(self._settings)
        by = self._leased.submitter(sweep, KeyLimits(queued_jobs=self._settings.key_queued_jobs))
        job = self._leased.add_trial(sweep, number, params, new, by)
        if job is not None:
            log.info("sweep %s: trial %d is job %s", sweep.id, number, job.id)
        return job is not None

    def _fail(self, sweep: Sweep, failed: Sequence[SweepTrial]) -> None:
        last = failed[-1]
        message = f"{len(failed)} trials have failed in a row; the last one, trial {last.number}: {last.message}"
        self._leased.fail(sweep, message[:MAX_MESSAGE])
        log.warning("sweep %s: %s", sweep.id, message)

    def _finish_all(self, sweep: Sweep, trials: Sequence[SweepTrial]) -> None:
        if any(trial.state is TrialState.COMPLETE for trial in trials):
            self._finish(sweep, SweepStatus.SUCCEEDED, None)
        else:
            self._finish(sweep, SweepStatus.FAILED, "no trial has completed; see the messages of the trials")

    def _finish(self, sweep: Sweep, status: SweepStatus, message: str | None) -> None:
        self._leased.finish(sweep, status, message)
        self._replayed.pop(sweep.id, None)
        log.info("sweep %s: running -> %s%s", sweep.id, status, f": {message}" if message else "")
