"""Views of sweeps: from records to responses."""

from dataclasses import asdict
from typing import Any

from service.api.views import moment, moment_or_none
from service.rest.schemas import Resources
from service.rest.sweep_schemas import (
    BestTrial,
    ParallelCoordinates,
    PlotAxis,
    PlotLine,
    ReportView,
    SweepSummary,
    SweepView,
    TrialView,
)
from service.states import TrialState
from service.store.sweep_records import Sweep, SweepTrial
from service.sweeps.coordinates import coordinates
from service.sweeps.trial_results import meets_constraints
from service.sweeps.use_cases import SweepDetails


def sweep_summary(sweep: Sweep) -> SweepSummary:
    """Return a sweep without its trials."""
    return SweepSummary(**_summary(sweep))


def sweep_view(details: SweepDetails) -> SweepView:
    """Return a sweep with its trials and its best document."""
    spec = details.spec
    return SweepView(
        **_summary(details.sweep),
        metric=spec.metric or "",
        direction=spec.direction or "maximize",
        num_trials=spec.trials,
        best=_best(details),
        trials=[_trial_view(details, trial) for trial in details.trials],
        config=spec.model_dump(mode="json", exclude_unset=True),
    )


def plot_view(details: SweepDetails) -> ParallelCoordinates:
    """Return the numbers of the parallel-coordinates plot."""
    axes, lines = coordinates(details.spec, details.trials)
    return ParallelCoordinates(
        axes=[PlotAxis(**asdict(axis)) for axis in axes], lines=[PlotLine(**asdict(line)) for line in lines]
    )


def _summary(sweep: Sweep) -> dict[str, Any]:
    return {
        "id": sweep.id,
        "name": sweep.name,
        "status": sweep.status,
        "message": sweep.message,
        "cancel_requested": sweep.cancel_requested_at is not None,
        "priority": sweep.priority,
        "resources": Resources(cpus=sweep.cpus, gpus=sweep.gpus, timeout_s=sweep.timeout_s),
        "created_at": moment(sweep.created_at),
        "finished_at": moment_or_none(sweep.finished_at),
        "mlflow_run_id": sweep.mlflow_run_id,
        "tenant": sweep.tenant,
    }


def _best(details: SweepDetails) -> BestTrial | None:
    best = details.best
    if best is None or best.value is None:
        return None
    document = details.document_of(best)
    return BestTrial(
        number=best.number, job_id=best.job_id, value=best.value, params=dict(best.params), document=document
    )


def _trial_view(details: SweepDetails, trial: SweepTrial) -> TrialView:
    is_complete = trial.state is TrialState.COMPLETE
    return TrialView(
        number=trial.number,
        job_id=trial.job_id,
        state=trial.state,
        params=dict(trial.params),
        value=trial.value,
        is_feasible=meets_constraints(details.spec, trial) if is_complete else None,
        limited=dict(trial.limited),
        reports=[ReportView(epoch=report.epoch, value=report.value) for report in trial.reports],
        message=trial.message,
        created_at=moment(trial.created_at),
        ended_at=moment_or_none(trial.ended_at),
    )
